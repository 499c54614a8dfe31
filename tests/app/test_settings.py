"""Settings from the environment and from options."""

import pytest

from app.errors import StartupError
from app.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"GATECAST_{name.upper()}", raising=False)


def test_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATECAST_MAX_BATCH_SIZE", "7")
    assert load_settings().max_batch_size == 7


def test_options_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATECAST_PORT", "1000")
    assert load_settings(port="2000").port == 2000


def test_wrong_value_is_one_line_that_names_the_setting() -> None:
    with pytest.raises(StartupError, match=r"^GATECAST_PORT: [^\n]*$"):
        load_settings(port=99999)


def test_unknown_device_is_refused() -> None:
    with pytest.raises(StartupError, match="GATECAST_DEVICE"):
        load_settings(device="tpu")


def test_open_address_without_keys_is_refused() -> None:
    with pytest.raises(StartupError, match="without API keys"):
        load_settings(host="0.0.0.0")  # noqa: S104 - that is what is refused


@pytest.mark.parametrize("extra", [{"insecure": True}, {"api_keys_file": "keys"}])
def test_open_address_is_allowed_on_purpose(extra: dict[str, object]) -> None:
    assert load_settings(host="0.0.0.0", **extra).host == "0.0.0.0"  # noqa: S104


def test_children_get_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(port=1234, max_padding_share=0.5, insecure=True)
    for name, value in settings.to_environment().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())
