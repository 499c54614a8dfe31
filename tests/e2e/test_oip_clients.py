"""The real tritonclient, unmodified, against a real service."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import tritonclient.http as sync
from numpy.typing import NDArray
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.e2e.client import Client
from tests.e2e.service import Service, serving
from tests.e2e.traffic import path_of

ROOT = Path(__file__).parents[2]
TARGET = (np.sin(np.arange(96)) * 10 + 50).astype(np.float32)[None]
LEVELS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
STATES = ("recent_target", "running_sums", "hidden_state", "cell_state")

# tritonclient's aio probes leave their answers unread, and aiohttp complains of that.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

SHARED = pytest.mark.asyncio(loop_scope="module")

_READY_ANSWERS = 8
"""Each over a connection of its own, so that every gateway is asked."""

Http = Any
"""One of the client's two modules, which have the same names in them."""


def make_input(http: Http, values: NDArray[Any], name: str, *, is_binary: bool) -> Any:
    tensor = http.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
    tensor.set_data_from_numpy(values, binary_data=is_binary)
    return tensor


@asynccontextmanager
async def ready_service(model_repository: Path, **settings: object) -> AsyncIterator[Service]:
    """Serve, and wait until every gateway has found its runners."""
    async with serving(model_repository, **settings) as service:
        num_ready = 0
        while num_ready < _READY_ANSWERS:
            async with Client(service.port) as client:
                answer = await client.get("/v2/health/ready")
            num_ready = num_ready + 1 if answer.status == 200 else 0
        yield service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tiny_repository: Path) -> AsyncIterator[Service]:
    async with ready_service(tiny_repository) as service:
        yield service


@asynccontextmanager
async def aio_client(service: Service) -> AsyncIterator[Any]:
    async with aio.InferenceServerClient(f"127.0.0.1:{service.port}") as client:
        yield client


async def in_thread(service: Service, work: Callable[[Any], Any]) -> Any:
    """Run ``work`` with the gevent client, which belongs to the thread that made it."""

    def run() -> Any:
        with sync.InferenceServerClient(f"127.0.0.1:{service.port}") as client:
            return work(client)

    return await asyncio.to_thread(run)


async def native_quantiles(service: Service) -> NDArray[np.float32]:
    async with Client(service.port) as client:
        body = {"series": [{"target": TARGET[0].tolist()}], "quantile_levels": LEVELS}
        answer = (await client.post(path_of("tiny"), body)).json()
    quantiles = answer["forecasts"][0]["quantiles"]
    return np.array([quantiles[str(level)] for level in LEVELS], np.float32).T[None]


def describe(client: Any) -> dict[str, Any]:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("none")
    return {
        "server": client.get_server_metadata(),
        "model": client.get_model_metadata("tiny"),
        "config": client.get_model_config("tiny", "1"),
        "index": client.get_model_repository_index(),
        "statistics": client.get_inference_statistics("tiny"),
        "all": client.get_inference_statistics(),
    }


async def describe_async(client: Any) -> dict[str, Any]:
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("tiny")
    assert await client.is_model_ready("tiny", "1")
    assert not await client.is_model_ready("none")
    return {
        "server": await client.get_server_metadata(),
        "model": await client.get_model_metadata("tiny"),
        "config": await client.get_model_config("tiny", "1"),
        "index": await client.get_model_repository_index(),
        "statistics": await client.get_inference_statistics("tiny"),
        "all": await client.get_inference_statistics(),
    }


async def test_clients_read_what_is_served(tiny_repository: Path) -> None:
    async with ready_service(tiny_repository) as service:
        found = await in_thread(service, describe)
        async with aio_client(service) as client:
            assert await describe_async(client) == found
    assert "binary_tensor_data" in found["server"]["extensions"]
    shapes = {one["name"]: one["shape"] for one in found["model"]["inputs"]}
    assert (shapes["past_target"], shapes["sequence_lens"]) == ([-1, -1], [-1, 1])
    assert found["config"]["max_batch_size"] == 16
    (entry,) = found["index"]
    assert len(entry.pop("sha256")) == 64
    assert (entry.pop("labels"), entry.pop("share"), entry.pop("task")) == ([], 1, "forecast")
    assert entry == {"name": "tiny", "version": "1", "state": "READY", "reason": ""}
    assert found["statistics"]["model_stats"][0]["inference_stats"]["success"]["count"] == 0


@SHARED
@pytest.mark.parametrize("is_binary", [True, False])
@pytest.mark.parametrize("encoding", [None, "gzip", "deflate"])
async def test_forecasts_equal_those_of_the_native_api_bit_for_bit(
    service: Service, *, is_binary: bool, encoding: str | None
) -> None:
    def options(http: Http) -> dict[str, Any]:
        return {
            "inputs": [make_input(http, TARGET, "past_target", is_binary=is_binary)],
            "outputs": [http.InferRequestedOutput("quantiles", binary_data=is_binary)],
            "request_id": "a-1",
            "request_compression_algorithm": encoding,
            "response_compression_algorithm": encoding,
        }

    want = await native_quantiles(service)
    first = await in_thread(service, lambda client: client.infer("tiny", **options(sync)))
    async with aio_client(service) as client:
        second = await client.infer("tiny", model_version="1", **options(aio))
    for result in (first, second):
        np.testing.assert_array_equal(result.as_numpy("quantiles"), want, strict=True)
        assert result.get_response()["id"] == "a-1"


@SHARED
async def test_plainest_call_gives_every_output_and_takes_the_state_back(
    service: Service,
) -> None:
    async with aio_client(service) as client:

        async def infer(target: NDArray[np.float32], *states: Any) -> Any:
            inputs = [make_input(aio, target, "past_target", is_binary=True), *states]
            return await client.infer("tiny", inputs)

        whole = await infer(TARGET)
        first = await infer(TARGET[:, :95])
        states = [
            make_input(aio, first.as_numpy(f"next_{name}"), name, is_binary=True) for name in STATES
        ]
        last = await infer(TARGET[:, 95:], *states)
    np.testing.assert_allclose(last.as_numpy("quantiles"), whole.as_numpy("quantiles"), rtol=1e-4)


@SHARED
async def test_missing_values_travel_in_both_forms(service: Service) -> None:
    target = TARGET.copy()
    target[0, 7] = np.nan
    async with aio_client(service) as client:
        results = [
            await client.infer("tiny", [make_input(aio, target, "past_target", is_binary=form)])
            for form in (True, False)
        ]
    first, second = (result.as_numpy("quantiles") for result in results)
    np.testing.assert_array_equal(first, second, strict=True)
    assert np.isfinite(first).all()


@SHARED
async def test_errors_carry_our_sentence(service: Service) -> None:
    async with aio_client(service) as client:
        tensor = make_input(aio, TARGET, "past_target", is_binary=True)
        calls = {
            "no model of this name": client.infer("none", [tensor]),
            "has no such version": client.infer("tiny", [tensor], model_version="9"),
            "no input other": client.infer(
                "tiny", [make_input(aio, TARGET, "other", is_binary=True)]
            ),
            "the deadline passed": client.infer("tiny", [tensor], timeout=1),
            "no such sequence": client.infer("tiny", [tensor], sequence_id=5),
            "loaded and unloaded by request only": client.load_model("tiny"),
            "it is fixed": client.unload_model("tiny"),
            "not part of this service": client.get_trace_settings(),
            "shared memory": client.get_system_shared_memory_status(),
            "log settings": client.get_log_settings(),
        }
        for sentence, call in calls.items():
            with pytest.raises(InferenceServerException, match=sentence):
                await call

        def fail(client: Any) -> None:
            with pytest.raises(InferenceServerException, match="no model of this name"):
                client.get_model_metadata("none")

        await in_thread(service, fail)


async def test_statistics_are_exact_over_all_processes(tiny_repository: Path) -> None:
    settings = {"gateways": 2, "runners": 2}
    async with ready_service(tiny_repository, **settings) as service, aio_client(service) as client:
        tensor = make_input(aio, np.repeat(TARGET, 3, axis=0), "past_target", is_binary=True)
        await asyncio.gather(*(client.infer("tiny", [tensor]) for _ in range(20)))
        (found,) = (await client.get_inference_statistics("tiny", "1"))["model_stats"]
    counts = {name: one["count"] for name, one in found["inference_stats"].items()}
    assert (counts["success"], counts["queue"], counts["compute_infer"]) == (20, 20, 20)
    assert (counts["fail"], found["inference_count"]) == (0, 60)
    runs = sum(one["compute_infer"]["count"] for one in found["batch_stats"])
    rows = sum(o["batch_size"] * o["compute_infer"]["count"] for o in found["batch_stats"])
    assert (runs, rows) == (found["execution_count"], 60)


async def test_example_of_the_documentation_runs() -> None:
    document = (ROOT / "docs/open-inference-protocol.md").read_text()
    example = document.split("```python\n")[1].split("```")[0]
    async with ready_service(ROOT / "model_repository") as service:
        script = example.replace("8080", str(service.port)) + "print(quantiles.shape)"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
    assert output.decode().strip() == "(1, 24, 13)"
