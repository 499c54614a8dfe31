"""The command line as a user sees it."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner
from typing_extensions import override

from app.banner import print_banner
from app.cli import CommandGroup, gatecast
from app.lifeline import ModelReport, ReadyReport
from app.settings import Settings


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "app", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_all_commands_are_listed() -> None:
    listing = CliRunner().invoke(gatecast, ["--help"]).output
    for command in ("train", "backtest", "export", "verify", "serve", "keys"):
        assert command in listing


def test_every_setting_is_an_option_of_serve() -> None:
    text = CliRunner().invoke(gatecast, ["serve", "--help"]).output
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')}" in text


def test_unknown_command_is_a_usage_error() -> None:
    assert CliRunner().invoke(gatecast, ["nonsense"]).exit_code == 2


class WithoutTraining(CommandGroup):
    """The group as it is where torch is not installed."""

    @override
    def entry_points(self) -> dict[str, EntryPoint]:
        return {"train": EntryPoint("train", "module_of_no_package:train", "gatecast.commands")}


def test_command_without_its_extra_says_what_to_install() -> None:
    result = CliRunner().invoke(
        WithoutTraining("gatecast"), ["train", "data.csv", "--horizon", "3"]
    )
    assert "pip install 'gatecast[train]'" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--port", "99999"), "GATECAST_PORT"),
        (("--host", "0.0.0.0"), "without API keys"),  # noqa: S104 - that is what is refused
        (("--model-repository", "no/such/folder", "--port", "0"), "no/such/folder"),
        (("--device", "cuda", "--port", "0"), "device cuda"),
        (("--host", "192.0.2.1", "--insecure"), "can not listen on 192.0.2.1"),
    ],
    ids=["port", "exposed", "repository", "cuda", "address"],
)
def test_serve_that_can_not_start_ends_with_one_line(
    tiny_repository: Path, arguments: tuple[str, ...], message: str
) -> None:
    given = (
        () if "--model-repository" in arguments else ("--model-repository", str(tiny_repository))
    )
    result = run("serve", *arguments, *given)
    assert result.returncode == 1
    assert result.stderr.startswith("gatecast: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_banner_shows_address_device_models_and_a_curl_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    models = [
        ModelReport("a", 2, "LSTM", '{"series": []}', task="forecast"),
        ModelReport("b", 1, reason="damaged"),
    ]
    report = ReadyReport(device="cpu", note="CUDA was not found", models=models)
    print_banner(report, [("::1", 8080), ("::1", 8081)], needs_key=True)
    text = capsys.readouterr().out
    assert "http://[::1]:8080" in text
    assert "admin    http://[::1]:8081\n" in text
    assert "cpu (CUDA was not found)" in text
    assert "a version 2: LSTM" in text
    assert "b version 1: refused: damaged" in text
    assert "curl -s http://[::1]:8080/v1/models/a/forecast -H 'Authorization: Bearer" in text
    assert """-d '{"series": []}'""" in text


def test_banner_without_a_sound_model_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_banner(ReadyReport(device="cpu"), [("127.0.0.1", 1)], needs_key=False)
    assert "none is ready" in capsys.readouterr().out
