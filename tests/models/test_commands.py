import datetime as dt
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from app.errors import InvalidInputError
from app.holiday_calendar import HolidayCalendar
from models.checkpoint import load_checkpoint
from models.commands import backtest, train
from models.metrics import EVALUATION_LEVELS
from models.series import SeriesSet

TINY = ["--horizon", "4", "--season", "4", "--hidden-size", "4", "--num-layers", "1"]
CONTINUED = 130
PATIENCE_S = 60


@pytest.fixture
def data_file(waves: SeriesSet, tmp_path: Path) -> Path:
    lines = ["item_id,timestamp,target,noise"]
    for item in waves.series:
        lines += [f"{item.item_id},{step},{value},0" for step, value in enumerate(item.target)]
    path = tmp_path / "waves.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def trained(data_file: Path, tmp_path: Path) -> Path:
    directory = tmp_path / "trained"
    run_train(data_file, directory, "--max-steps", "20")
    return directory


def run_train(data: Path, directory: Path, *options: str) -> str:
    arguments = [str(data), "--output", str(directory), *TINY, *options]
    result = CliRunner().invoke(train, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_train_tells_what_it_understood(data_file: Path, tmp_path: Path) -> None:
    output = run_train(data_file, tmp_path / "run", "--max-steps", "2")
    for text in ("315", "integer steps", "40 to 65", "0 to 64", "noise", "no value is negative"):
        assert text in output


def test_train_honours_its_options(data_file: Path, tmp_path: Path) -> None:
    options = ["--max-steps", "2", "--cell", "gru", "--window", "5", "--past-covariates", "noise"]
    run_train(data_file, tmp_path / "run", *options, "--description", "of waves")
    checkpoint = load_checkpoint(tmp_path / "run")
    config = checkpoint.network.config
    assert (config.cell, config.window, config.past_covariates) == ("gru", 5, ("noise",))
    assert (config.season, config.horizon, checkpoint.description) == (4, 4, "of waves")


def test_log_of_negative_values_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "negative.csv"
    data.write_text("unique_id,ds,y\na,1,-1\na,2,2\n")
    with pytest.raises(InvalidInputError, match="negative values"):
        run_train(data, tmp_path / "run", "--transform", "log")


def test_backtest_prints_both_methods(trained: Path, data_file: Path) -> None:
    arguments = [str(trained), str(data_file), "--windows", "2"]
    result = CliRunner().invoke(backtest, arguments, catch_exceptions=False)
    for text in (
        "MASE",
        "sMAPE",
        "weighted quantile loss",
        "80% coverage",
        "12 windows of 4",
        "by step",
        "calibration",
    ):
        assert text in result.output
    assert "trained on these very data" in result.output


def test_backtest_prints_json(trained: Path, data_file: Path) -> None:
    arguments = [str(trained), str(data_file), "--horizon", "3", "--json"]
    result = CliRunner().invoke(backtest, arguments, catch_exceptions=False)
    scores = json.loads(result.output)
    assert (scores["num_series"], scores["num_windows"], scores["horizon"]) == (6, 6, 3)
    assert 0 < scores["seasonal_naive"]["mase"] < 2
    assert 0 <= scores["model"]["coverage_80"] <= 1
    assert [step["step"] for step in scores["steps"]] == [1, 2, 3]
    assert [one["level"] for one in scores["calibration"]] == pytest.approx(EVALUATION_LEVELS)


def test_backtest_draws_pictures(trained: Path, data_file: Path, tmp_path: Path) -> None:
    arguments = [str(trained), str(data_file), "--pictures", str(tmp_path / "pictures")]
    CliRunner().invoke(backtest, arguments, catch_exceptions=False)
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert names == {"fan_charts.png", "reliability.png"}


def test_undefined_measure_is_null_in_json(trained: Path, tmp_path: Path) -> None:
    data = tmp_path / "constant.csv"
    data.write_text("item_id,timestamp,target\n" + "".join(f"a,{step},5\n" for step in range(20)))
    result = CliRunner().invoke(backtest, [str(trained), str(data), "--json"])
    assert json.loads(result.output)["model"]["mase"] is None


def test_backtest_beyond_the_models_horizon_is_refused(trained: Path, data_file: Path) -> None:
    with pytest.raises(InvalidInputError, match="the model forecasts 4"):
        CliRunner().invoke(
            backtest, [str(trained), str(data_file), "--horizon", "5"], catch_exceptions=False
        )


@pytest.fixture
def shop_file(tmp_path: Path) -> Path:
    """Two daily series of shops of two kinds, a month long."""
    first = dt.date.fromisoformat("2024-01-01")
    lines = ["item_id,timestamp,target,kind"]
    for kind in ("mall", "street"):
        lines += [f"{kind},{first + dt.timedelta(day)},{20 + day % 7},{kind}" for day in range(31)]
    path = tmp_path / "shops.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def barely_trained(data_file: Path, tmp_path: Path) -> Path:
    directory = tmp_path / "barely_trained"
    run_train(data_file, directory, "--max-steps", "1", "--members", "1")
    return directory


SHOP = (
    "--static-categories",
    "kind",
    "--calendar",
    "--holidays",
    "DE",
    "--max-steps",
    "2",
    "--members",
    "1",
)


def test_training_learns_from_categories_calendar_and_holidays(
    shop_file: Path, tmp_path: Path
) -> None:
    output = run_train(shop_file, tmp_path / "run", *SHOP)
    checkpoint = load_checkpoint(tmp_path / "run")
    config = checkpoint.network.config
    assert "kind (2 categories)" in output
    assert config.categories == {"kind": ("mall", "street")}
    assert config.calendar_features[:2] == ("weekday_sin", "weekday_cos")
    assert config.calendar_features[-1] == "holiday"
    assert checkpoint.holidays == HolidayCalendar.of_country("DE")
    arguments = [str(tmp_path / "run"), str(shop_file), "--json"]
    result = CliRunner().invoke(backtest, arguments, catch_exceptions=False)
    assert json.loads(result.output)["num_series"] == 2


def test_calendar_of_plain_steps_is_refused(data_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="need time stamps"):
        run_train(data_file, tmp_path / "run", "--calendar")


def test_train_tells_why(data_file: Path, tmp_path: Path) -> None:
    output = run_train(data_file, tmp_path / "run", "--max-steps", "2", "--window", "5")
    lines = {line.split("│")[1].strip(): line for line in output.splitlines() if "│" in line}
    assert "as asked for" in lines["window"]
    assert "48, or all if fewer" in lines["batch size"]
    assert "recipe for a season of 4" in lines["num members"]


def test_tuning_starts_from_the_weights_of_the_checkpoint(
    barely_trained: Path, data_file: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "tuned"
    options = ["--from", str(barely_trained), "--max-steps", "1", "--learning-rate", "1e-9"]
    arguments = [str(data_file), "--output", str(directory), *options]
    result = CliRunner().invoke(train, arguments, catch_exceptions=False)
    assert "that of the checkpoint" in result.output
    before, after = load_checkpoint(barely_trained), load_checkpoint(directory)
    assert after.network.config == before.network.config
    assert after.training.config["tuned_from"]["seed"] == before.training.seed
    old, new = (each.network.state_dict() for each in (before, after))
    for name, weight in old.items():
        torch.testing.assert_close(new[name], weight, rtol=0, atol=1e-6)


def test_tuning_goes_on_learning_at_a_lower_rate(
    barely_trained: Path, data_file: Path, tmp_path: Path
) -> None:
    arguments = [str(data_file), "--output", str(tmp_path / "tuned"), "--from", str(barely_trained)]
    result = CliRunner().invoke(train, [*arguments, "--max-steps", "2"], catch_exceptions=False)
    assert result.exit_code == 0
    tuned, start = load_checkpoint(tmp_path / "tuned"), load_checkpoint(barely_trained)
    assert tuned.training.config["learning_rate"] == pytest.approx(3e-4)
    one, other = (each.network.state_dict() for each in (tuned, start))
    assert any(not torch.equal(one[name], other[name]) for name in other)


@pytest.mark.parametrize(("option", "value"), [("--members", "2"), ("--dropout", "0")])
def test_tuning_with_another_network_is_refused(
    option: str, value: str, barely_trained: Path, data_file: Path, tmp_path: Path
) -> None:
    arguments = [str(data_file), "--output", str(tmp_path / "tuned"), "--from", str(barely_trained)]
    result = CliRunner().invoke(train, [*arguments, option, value])
    assert result.exit_code == 2
    assert f"{option} can not be given with --from" in result.output


def test_interrupted_training_continues_to_the_same_weights(
    data_file: Path, tmp_path: Path
) -> None:
    program = "from models.commands import train; train()"
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    options = ["--max-steps", "150", "--search-steps", "--members", "2"]
    arguments = [str(data_file), "--output", str(stopped), *TINY, *options]
    command = [sys.executable, "-c", program, *arguments]
    with subprocess.Popen(command) as process:  # noqa: S603
        wait_for(stopped / "training" / "search-log.ckpt", process)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == CONTINUED
    assert not (stopped / "forecaster.json").exists()

    output = run_train(data_file, stopped, *options)
    assert "continuing the training that was stopped" in output
    run_train(data_file, whole, *options)
    one, other = (load_checkpoint(each).network.state_dict() for each in (stopped, whole))
    assert all(torch.equal(one[name], other[name]) for name in other)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert process.poll() is None, "training ended before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.01)
