"""What README, Dockerfile and pyproject say is so."""

import ast
import json
import re
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from prometheus_client import REGISTRY

from app.gateway.problems import PROBLEM_KINDS
from app.gateway.triton_metrics import TRITON_METRICS
from app.metrics import REQUESTS
from app.settings import Settings, load_settings
from tests.redis_server import running_redis

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMMAND_VARIABLES = {"API_KEY"}
"""Read by commands that call a service, and no settings of one."""
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "load"}


def settings_table() -> str:
    rows = ["| variable | default | what it is |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        rows.append(f"| `GATECAST_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def test_settings_are_documented_with_their_defaults() -> None:
    page = (ROOT / "docs/settings.md").read_text()
    table = page.split("<!-- settings -->\n")[1].split("\n<!-- end of settings -->")[0]
    assert table == settings_table()


def test_readme_names_only_problems_that_exist() -> None:
    rows = re.findall(r"^\| \d{3}.*?\| (.*?) \|", README, re.MULTILINE)
    named = {kind for row in rows for kind in re.findall(r"`([a-z-]+)`", row)}
    assert named
    assert named <= {kind.type for kind in PROBLEM_KINDS.values()}


def test_readme_is_short() -> None:
    assert README.count("\n") <= 250


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_only_settings_that_exist(document: Path) -> None:
    named = set(re.findall(r"GATECAST_([A-Z_]+[A-Z])", document.read_text()))
    assert named - COMMAND_VARIABLES <= {name.upper() for name in Settings.model_fields}


def test_dockerfile_copies_what_exists() -> None:
    sources = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert sources
    ignored = (ROOT / ".dockerignore").read_text()
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored.splitlines()


def test_dockerfile_starts_a_command_that_is_installed() -> None:
    entry = re.search(r'^ENTRYPOINT \["(\w+)"\]\nCMD \["(\w+)"\]', DOCKERFILE, re.MULTILINE)
    assert entry is not None
    assert entry[1] in PROJECT["project"]["scripts"]
    assert entry[2] in PROJECT["project"]["entry-points"]["gatecast.commands"]


def test_dockerfile_has_two_stages_and_no_root_and_no_torch() -> None:
    assert len(re.findall(r"^FROM ", DOCKERFILE, re.MULTILINE)) == 2
    assert re.search(r"^USER [1-9]", DOCKERFILE, re.MULTILINE)
    assert "torch" not in DOCKERFILE
    assert "[train]" not in DOCKERFILE


def test_dockerfile_sets_only_settings_that_exist() -> None:
    named = set(re.findall(r"GATECAST_([A-Z_]+)=", DOCKERFILE))
    assert named
    assert named <= {name.upper() for name in Settings.model_fields}


def test_image_leaves_the_model_repository_to_the_platform() -> None:
    default = Settings.model_fields["model_repository"].default
    assert "GATECAST_MODEL_REPOSITORY" not in DOCKERFILE
    assert f"ln -s /models /{default}" in DOCKERFILE
    assert "WORKDIR /\n" in DOCKERFILE


def test_gpu_argument_adds_the_gpu_extra() -> None:
    assert "[holidays,redis${GPU:+,gpu}]" in DOCKERFILE
    assert any("cudnn" in need for need in PROJECT["project"]["optional-dependencies"]["gpu"])


def test_compose_is_locked_down() -> None:
    service = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]["gatecast"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - the container's own
    assert service["environment"].keys() <= {f"GATECAST_{n.upper()}" for n in Settings.model_fields}


def test_compose_file_of_redis_starts_one_that_keeps_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "deploy/compose.redis.yaml").read_text()
    services = yaml.safe_load(text.replace("${REDIS_PASSWORD:?}", "secret"))["services"]
    environment = services["gatecast"]["environment"]
    assert environment.keys() == {"GATECAST_STREAM_STORE"}
    monkeypatch.setenv(*environment.popitem())
    assert load_settings().stream_store == "redis://:secret@redis:6379/0"
    program, *options = services["redis"]["command"]
    assert program == "redis-server"
    with running_redis(tmp_path, *options) as server, server.client("secret") as client:
        found: dict[Any, Any] = client.config_get("appendonly", "maxmemory-policy")
    assert found == {"appendonly": "yes", "maxmemory-policy": "noeviction"}


@pytest.mark.parametrize("name", ["serve", "keys", "models"])
def test_commands_of_the_service_are_where_pyproject_says(name: str) -> None:
    place = PROJECT["project"]["entry-points"]["gatecast.commands"][name]
    command = EntryPoint(name, place, "gatecast.commands").load()
    assert isinstance(command, click.Command)
    assert command.name == name


def test_dashboard_uses_only_metrics_that_exist() -> None:
    panels = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    used = set(re.findall(r"\b(?:gatecast|nv)_\w+", " ".join(expressions)))
    REQUESTS.labels(
        "/", "monthly", "1", "200"
    )  # the registry is filled once its module is imported
    families = [family for family in REGISTRY.collect() if family.name.startswith("gatecast")]
    suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    known = {f"{one.name}{suffix}" for one in families for suffix in suffixes[one.type]}
    assert used
    assert used <= known | TRITON_METRICS


def test_serving_needs_no_torch() -> None:
    assert not [need for need in PROJECT["project"]["dependencies"] if "torch" in need]


def test_every_dependency_is_pinned() -> None:
    pins = {
        line.partition("==")[0].lower().replace("_", "-").replace(".", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    extras = PROJECT["project"]["optional-dependencies"]
    needs = PROJECT["project"]["dependencies"] + extras["train"] + extras["dev"]
    names = {re.split(r"[^A-Za-z0-9_-]", need)[0].lower() for need in needs}
    assert names <= pins


@pytest.mark.parametrize("path", sorted((ROOT / "app").rglob("*.py")), ids=lambda p: p.stem)
def test_serving_code_never_deserialises_code(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not {alias.name.partition(".")[0] for alias in node.names} & FORBIDDEN_IMPORTS
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in FORBIDDEN_IMPORTS
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_CALLS


def test_changelog_has_a_place_for_the_next_change() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()
