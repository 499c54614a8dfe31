"""``gatecast models`` against services that listen on real ports."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from click.testing import CliRunner, Result
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from app.errors import RemoteError
from app.gateway.drain import Drain
from app.gateway.main import create_app
from app.gateway.runners import ModelVersion
from app.keys import create_key
from app.model_config import ModelConfig
from app.models_command import default_url, models
from app.settings import load_settings
from tests.fakes import FakeRunners, forecaster, make_card


@contextmanager
def listening(app: ASGIApp) -> Iterator[str]:
    """Serve ``app`` from a thread until the block ends; give its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def gateway(*versions: ModelVersion, **settings: object) -> ASGIApp:
    return create_app(load_settings(**settings), FakeRunners(*versions), Drain())


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    config = ModelConfig(labels={"stable": 2})
    sound = replace(forecaster("monthly", 2, make_card()), config=config)
    damaged = ModelVersion("broken", 10, None, "damaged: half a file")
    with listening(gateway(sound, damaged)) as url:
        yield url


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(models, arguments, env=environment)


def test_list_shows_versions_states_and_reasons_in_columns(url: str) -> None:
    result = run("list", "--url", url)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "NAME     VERSION  STATE        TASK      LABELS  SHARE  REASON",
        "broken   10       UNAVAILABLE                    100%   damaged: half a file",
        "monthly  2        READY        forecast  stable  100%",
    ]


def test_verify_of_a_ready_model_succeeds(url: str) -> None:
    result = run("verify", "monthly", "--url", url)
    assert (result.exit_code, result.stdout) == (0, "NAME     STATE\nmonthly  ready\n")


def test_verify_of_all_fails_where_one_is_not_ready_and_says_why(url: str) -> None:
    result = run("verify", "--url", url)
    assert result.exit_code == 1
    assert "monthly  ready" in result.stdout
    assert "damaged: half a file" in result.stdout


def test_verify_without_models_fails() -> None:
    with listening(gateway()) as url:
        assert "no models" in str(run("verify", "--url", url).exception)


@pytest.mark.parametrize("command", ["verify", "load", "unload"])
def test_refusal_is_the_sentence_of_the_service(url: str, command: str) -> None:
    result = run(command, "no such/model", "--url", url)
    assert isinstance(result.exception, RemoteError)
    assert str(result.exception)[:3] in {"404", "501"}
    assert "\n" not in str(result.exception)


def test_key_of_the_option_or_the_environment_is_sent(tmp_path: Path) -> None:
    key, file = create_key(), tmp_path / "keys"
    file.write_text(key.line)
    with listening(gateway(api_keys_file=file)) as url:
        assert run("list", "--url", url, "--api-key", key.text).exit_code == 0
        assert run("list", "--url", url, GATECAST_API_KEY=key.text).exit_code == 0
        assert "401" in str(run("list", "--url", url).exception)


def test_load_and_unload_name_the_model_in_the_path() -> None:
    paths: list[str] = []

    async def change(request: Request) -> Response:
        paths.append(request.scope["raw_path"].decode())
        return Response()

    operations = Route("/v2/repository/models/{name:path}", change, methods=["POST"])
    with listening(Starlette(routes=[operations])) as url:
        assert run("load", "a b/c", "--url", url).stdout == "loaded a b/c\n"
        assert run("unload", "monthly", "--url", url).stdout == "unloaded monthly\n"
    prefix = "/v2/repository/models/"
    assert paths == [f"{prefix}a%20b%2Fc/load", f"{prefix}monthly/unload"]


def test_label_is_put_and_removed_by_its_path() -> None:
    calls: list[tuple[str, str, bytes]] = []

    async def change(request: Request) -> Response:
        calls.append((request.method, request.url.path, await request.body()))
        return Response()

    path = "/v2/repository/models/m/labels/canary"
    with listening(Starlette(routes=[Route(path, change, methods=["PUT", "DELETE"])])) as url:
        moved = run("label", "m", "canary", "3", "--url", url)
        shared = run("label", "m", "canary", "3", "--share", "0.1", "--url", url)
        removed = run("label", "m", "canary", "--remove", "--url", url)
    assert moved.stdout == shared.stdout == "canary is version 3 of m\n"
    assert removed.stdout == "removed the label canary of m\n"
    assert calls == [
        ("PUT", path, b'{"version":3}'),
        ("PUT", path, b'{"version":3,"share":0.1}'),
        ("DELETE", path, b""),
    ]


@pytest.mark.parametrize(
    "arguments", [(), ("3", "--remove"), ("--remove", "--share", "0.1"), ("0",), ("3", "--share=2")]
)
def test_label_that_makes_no_sense_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    assert run("label", "m", "canary", *arguments, "--url", "http://127.0.0.1:9").exit_code == 2


def test_redirect_is_not_followed() -> None:
    callers: list[str] = []

    async def elsewhere(request: Request) -> Response:
        callers.append(request.headers["authorization"])
        return JSONResponse([])

    async def redirect(_: Request) -> Response:
        return RedirectResponse("/elsewhere", 302)

    routes = [
        Route("/v2/repository/index", redirect, methods=["POST"]),
        Route("/elsewhere", elsewhere, methods=["GET", "POST"]),
    ]
    with listening(Starlette(routes=routes)) as url:
        result = run("list", "--url", url, "--api-key", "secret")
    assert isinstance(result.exception, RemoteError)
    assert callers == []


def test_answer_that_is_no_index_is_one_line() -> None:
    async def answer(_: Request) -> Response:
        return Response("<html>")

    routes = [Route("/v2/repository/index", answer, methods=["POST"])]
    with listening(Starlette(routes=routes)) as url:
        assert "no repository index" in str(run("list", "--url", url).exception)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "127.0.0.1:8080", "ftp://a"])
def test_other_addresses_are_refused(url: str) -> None:
    assert "http://" in str(run("list", "--url", url).exception)


def test_service_that_is_away_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    error = run("list", "--url", url).exception
    assert isinstance(error, RemoteError)
    assert str(error).startswith(f"can not reach {url}: ")


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "http://127.0.0.1:8080"),
        ({"port": 9}, "http://127.0.0.1:9"),
        ({"port": 9, "admin_port": 10}, "http://127.0.0.1:10"),
        ({"host": "0.0.0.0"}, "http://127.0.0.1:8080"),  # noqa: S104 - a setting, nothing listens
        ({"host": "::"}, "http://[::1]:8080"),
    ],
    ids=["default", "port", "admin port", "all of IPv4", "all of IPv6"],
)
def test_settings_say_where_the_service_is(settings: dict[str, object], url: str) -> None:
    assert default_url(load_settings(insecure=True, **settings)) == url


def test_free_port_can_not_be_guessed() -> None:
    with pytest.raises(RemoteError, match="--url"):
        default_url(load_settings(port=0))
