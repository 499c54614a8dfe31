"""``config.toml`` of a model: what it may say, and what is said of a wrong one."""

from pathlib import Path

import pytest

from app.errors import ConfigError, ModelNotFoundError
from app.model_config import LabelChange, ModelConfig, load_config, parse_config
from app.settings import load_settings

LABELLED = """\
max_batch_size = 4
[versions]
latest = 2
[labels]
stable = 1
canary = 2
[traffic]
canary = 0.1
"""


def test_model_without_a_file_is_served_as_the_service_says(tmp_path: Path) -> None:
    settings = load_settings()
    config = load_config(tmp_path)
    assert config == ModelConfig()
    assert config.versions.latest == 1
    assert config.for_model(settings) is settings


def test_file_overrides_settings_for_its_model_alone(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(LABELLED)
    settings = load_settings(max_batch_size=32, priority_levels=7)
    own = load_config(tmp_path).for_model(settings)
    assert (own.max_batch_size, own.priority_levels, settings.max_batch_size) == (4, 7, 32)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("max_batch_size = 0", "max_batch_size: Input should be greater than or equal to 1"),
        ("max_batch_size = '8'", "max_batch_size: Input should be a valid integer"),
        ("max_batchsize = 8", "max_batchsize: Extra inputs are not permitted"),
        ("max_queue_delay_ms = inf", "max_queue_delay_ms: Input should be a finite number"),
        ("device = 'gpu'", "device: Input should be 'auto', 'cpu' or 'cuda'"),
        ("devices = [0, -1]", "devices: 1: Input should be greater than or equal to 0"),
        ("devices = []", "devices: List should have at least 1 item"),
        ("devices = [1, 1]", "devices: no GPU may be named twice"),
        ("device = 'cpu'\ndevices = [0]", "devices: these are GPUs, but device is cpu"),
        ("versions = {}", "versions: must have one of latest, all and named"),
        ("versions = {latest = 1, all = true}", "versions: must have one of latest, all and named"),
        ("versions = {all = false}", "versions: all: Input should be True"),
        ("versions = {named = []}", "versions: named: List should have at least 1 item"),
        ("labels = {2 = 1}", "labels: 2: String should match pattern"),
        ("labels = {a = 0}", "labels: a: Input should be greater than or equal to 1"),
        ("traffic = {a = 0.1}", "traffic: a is not among the labels"),
        ("labels = {a = 1}\ntraffic = {a = 1.1}", "traffic: a: Input should be less than"),
        ("labels = {a = 1, b = 2}\ntraffic = {a = 0.6, b = 0.6}", "more than 1 together"),
        ("labels = {stable = 1}\ntraffic = {stable = 0.9}", "stable gets what the other shares"),
        ("max_batch_size = ", "no TOML: Invalid value"),
        ("# " + "x" * 70_000, "more than 65536 bytes"),
    ],
    ids=lambda text: text[:24],
)
def test_wrong_file_is_refused_in_one_line_that_names_the_place(
    content: str, sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(content.encode())
    assert str(caught.value).startswith("config.toml: ")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_file_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(ConfigError, match="no TOML"):
        parse_config(b"a = '\xff'")


def test_label_moves_and_keeps_its_share() -> None:
    config = parse_config(LABELLED.encode()).labelled(LabelChange("canary", 3))
    assert config.labels == {"stable": 1, "canary": 3}
    assert config.traffic == {"canary": 0.1}
    assert config.max_batch_size == 4


def test_removed_label_takes_its_share_along() -> None:
    config = parse_config(LABELLED.encode()).labelled(LabelChange("canary", None))
    assert (config.labels, config.traffic) == ({"stable": 1}, {})


def test_label_that_is_not_there_can_not_be_removed() -> None:
    with pytest.raises(ModelNotFoundError, match="no such label"):
        ModelConfig().labelled(LabelChange("canary", None))


def test_share_beyond_the_whole_is_refused() -> None:
    with pytest.raises(ConfigError, match="more than 1 together"):
        parse_config(LABELLED.encode()).labelled(LabelChange("beta", 2, 0.95))


def test_config_is_the_same_after_the_wire() -> None:
    config = parse_config(LABELLED.encode())
    text = config.model_dump_json(exclude_unset=True)
    assert ModelConfig.model_validate_json(text) == config
