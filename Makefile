PYTHON ?= python3
BIN := .venv/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile --no-loadscope-reorder
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: serve test setup kills format static lint mypy basedpyright contracts check coverage chromium redis screenshots starter conformance bench bench-serving overload soak hostile bulk accuracy accuracy-smoke tasks constraints clean

serve: .venv/serving  ## serve the starter model on port 8080
	$(BIN)/gatecast serve

test: setup static check  ## everything that must pass

setup: .venv/development  ## install what development needs

.venv/serving: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --editable .
	touch $@

# torch comes first and by its exact version, so that nothing else chooses another build of it.
.venv/development: pyproject.toml constraints.txt clients/python/pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) torch==2.13.0
	$(PIP) --editable '.[train,dev]' --editable clients/python
	touch $@ .venv/serving

format: setup  ## put the source in shape
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

static: setup  ## what is found without running anything
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint mypy basedpyright contracts

lint: setup
	$(BIN)/ruff format --check
	$(BIN)/ruff check

mypy: setup
	$(BIN)/mypy

basedpyright: setup
	$(BIN)/basedpyright

contracts: setup
	$(BIN)/lint-imports

# Without coverage: measuring it takes a third of the time again.
check: setup
	$(PYTEST)

coverage: setup  ## the same tests, and how much of the source they run
	$(PYTEST) --cov --cov-report=term:skip-covered

chromium:  ## install the browser that tests the console, where this is root on Debian
	command -v chromium || { test "$$(id -u)" = 0 && apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	apt-get install -qq --no-install-recommends chromium > /dev/null; } || echo 'no chromium: its tests are skipped'

redis:  ## install the server that tests of shared streams start, where this is root on Debian
	command -v redis-server || { test "$$(id -u)" = 0 && apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	apt-get install -qq --no-install-recommends redis-server > /dev/null; } || echo 'no redis-server: its tests are skipped'

screenshots: setup  ## take the pictures in docs/console anew; needs chromium
	$(BIN)/python -m tests.browser.screenshots

starter: setup  ## train, score and publish the starter model
	rm -rf model_repository/monthly runs/starter
	$(BIN)/python -m models.starter
	$(BIN)/gatecast export runs/starter --name monthly

conformance: setup  ## run Triton's perf_analyzer against the service; needs pip, apt and x86-64
	$(BIN)/python -m tests.e2e.perf_analyzer

kills: setup  ## kill the service ten times during a bulk job, and compare the bytes of its result
	$(BIN)/pytest -m slow tests/e2e/test_jobs.py

bench: setup  ## measure the promises of the service
	$(BIN)/python -m benchmarks.promises

bench-serving: setup  ## measure the serving path beside its limits, LitServe and Triton; needs pip
	command -v wrk > /dev/null || { test "$$(id -u)" = 0 && apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	apt-get install -qq --no-install-recommends wrk > /dev/null; } || echo 'no wrk: Python sends the load'
	$(BIN)/python -m benchmarks.serving --peers

overload: setup  ## measure goodput, fairness and refusals under more load than there is capacity
	$(BIN)/python -m benchmarks.overload

soak: setup  ## half an hour of mixed load, every answer checked
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.soak

hostile: setup  ## load hostile and damaged model files and record what became of them
	OMP_NUM_THREADS=1 nice -n 5 $(BIN)/python -m benchmarks.hostile_models

bulk: setup  ## kill a bulk run ten times, and measure one of 100,000 series
	$(BIN)/pytest -m slow tests/e2e/test_bulk.py
	$(BIN)/python -m benchmarks.bulk

# Single-threaded: sums, and so the weights, depend on the number of threads.
accuracy: .venv/accuracy  ## score the defaults on official test parts beside rivals; continues
	OMP_NUM_THREADS=1 nice -n 5 $(BIN)/python -m benchmarks.accuracy

accuracy-smoke: .venv/accuracy  ## the same for the smallest set, with one seed
	OMP_NUM_THREADS=1 nice -n 5 $(BIN)/python -m benchmarks.accuracy --seeds 1 --fresh tourism-yearly

tasks: .venv/tasks  ## score models that classify, regress or tag on real sets beside standard methods
	OMP_NUM_THREADS=1 nice -n 5 $(BIN)/python -m benchmarks.tasks

# aeon's data files are read as they lie; what it needs to be imported does not fit our NumPy.
.venv/tasks: .venv/development
	$(PIP) --editable '.[train,dev,tasks]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps aeon==1.6.0
	touch $@

.venv/accuracy: .venv/development
	$(PIP) --editable '.[train,dev,accuracy]'
	touch $@

constraints:  ## pin the newest versions that fit pyproject.toml
	rm -rf .venv && $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[train,dev]' --editable clients/python
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu//' | grep -v '^nvidia-' > constraints.txt
	grep '^onnxruntime-gpu==' constraints.txt | sed 's/-gpu//' >> constraints.txt

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .coverage runs
