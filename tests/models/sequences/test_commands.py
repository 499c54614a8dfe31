import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from app.errors import InvalidInputError
from models.commands import backtest
from models.sequences.checkpoint import load_sequence_checkpoint
from models.sequences.commands import score
from models.train_command import train
from tests.models.sequences.made_up import write_waves

TINY = ["--hidden-size", "8", "--num-layers", "1", "--members", "1", "--held-back-share", "0.25"]


def run_train(data: Path, output: Path, task: str, *options: str) -> str:
    arguments = [str(data), "--task", task, "--target", _target(task), "--output", str(output)]
    result = CliRunner().invoke(train, [*arguments, *TINY, *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def _target(task: str) -> str:
    return {"classify": "kind", "regress": "speed", "tag": "phase"}[task]


def run_score(output: Path, data: Path, *options: str) -> Any:
    arguments = [str(output), str(data), "--json", *options]
    return json.loads(CliRunner().invoke(score, arguments, catch_exceptions=False).output)


@pytest.fixture(scope="module")
def waves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_waves(tmp_path_factory.mktemp("waves") / "waves.csv", count=48)


@pytest.mark.parametrize(
    ("task", "measure", "is_better"),
    [
        ("classify", "accuracy", lambda one: one["value"] > 0.9 > one["baseline"]),
        ("regress", "RMSE speed", lambda one: one["value"] < 0.5 * one["baseline"]),
        ("tag", "accuracy", lambda one: one["value"] > 0.85 > one["baseline"]),
    ],
    ids=["classify", "regress", "tag"],
)
def test_what_can_be_learned_is_learned(
    waves: Path, tmp_path: Path, task: str, measure: str, is_better: Any
) -> None:
    options = ["--features", "x", "--max-steps", "75", "--learning-rate", "0.03"]
    output = run_train(waves, tmp_path / "run", task, *options)
    assert "held-back sequences" in output
    unseen = write_waves(tmp_path / "unseen.csv", count=30, seed=9)
    scores = {one["name"]: one for one in run_score(tmp_path / "run", unseen)}
    assert is_better(scores[measure])


def test_checkpoint_holds_everything(waves: Path, tmp_path: Path) -> None:
    options = ["--cell", "gru", "--forwards", "--pooling", "max", "--description", "of waves"]
    options += ["--members", "2", "--level-noise", "0.2"]
    run_train(waves, tmp_path / "run", "classify", "--max-steps", "2", *options)
    checkpoint = load_sequence_checkpoint(tmp_path / "run")
    config = checkpoint.network.config
    assert (config.cell, config.is_bidirectional, config.pooling) == ("gru", False, "max")
    assert (config.num_members, config.level_noise) == (2, 0.2)
    assert (config.classes, checkpoint.description) == (("fast", "slow"), "of waves")
    assert checkpoint.max_length == 2 * 20
    assert checkpoint.training.num_series == 48


def test_same_seed_gives_the_same_weights(waves: Path, tmp_path: Path) -> None:
    runs = [tmp_path / "one", tmp_path / "two"]
    for run in runs:
        run_train(waves, run, "classify", "--max-steps", "4")
    one, two = (load_sequence_checkpoint(run).network.state_dict() for run in runs)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_score_is_recorded_in_the_checkpoint(waves: Path, tmp_path: Path) -> None:
    run_train(waves, tmp_path / "run", "classify", "--max-steps", "2")
    run_score(tmp_path / "run", waves, "--record", "waves")
    accuracy = load_sequence_checkpoint(tmp_path / "run").accuracy
    assert [one.metric for one in accuracy][:1] == ["accuracy"]
    assert {(one.data_set, one.num_sequences) for one in accuracy} == {("waves", 48)}


def test_finished_run_is_not_overwritten_unasked(waves: Path, tmp_path: Path) -> None:
    run_train(waves, tmp_path / "run", "tag", "--max-steps", "2")
    with pytest.raises(InvalidInputError, match="another --output"):
        run_train(waves, tmp_path / "run", "tag", "--max-steps", "2")
    run_train(waves, tmp_path / "run", "tag", "--max-steps", "2", "--overwrite")


def test_backtest_refuses_what_makes_no_forecasts(waves: Path, tmp_path: Path) -> None:
    run_train(waves, tmp_path / "run", "classify", "--max-steps", "2")
    result = CliRunner().invoke(backtest, [str(tmp_path / "run"), str(waves)])
    assert isinstance(result.exception, InvalidInputError)
    assert "gatecast score" in str(result.exception)


def test_score_refuses_a_directory_without_a_model(waves: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(score, [str(tmp_path), str(waves)])
    assert isinstance(result.exception, InvalidInputError)
    assert "gatecast backtest" in str(result.exception)


def test_too_few_sequences_are_refused(tmp_path: Path) -> None:
    data = write_waves(tmp_path / "few.csv", count=3)
    with pytest.raises(InvalidInputError, match="3 sequences are too few"):
        run_train(data, tmp_path / "run", "classify", "--max-steps", "2")


def test_file_without_tags_is_not_scored(waves: Path, tmp_path: Path) -> None:
    run_train(waves, tmp_path / "run", "tag", "--features", "x", "--max-steps", "1")
    untagged = tmp_path / "untagged.csv"
    untagged.write_text("item_id,x,phase\na,1,\na,2,\n")
    with pytest.raises(InvalidInputError, match="no step has a tag"):
        run_score(tmp_path / "run", untagged)


def test_pooling_has_no_place_in_tagging(waves: Path, tmp_path: Path) -> None:
    options = ["--task", "tag", "--target", "phase", "--pooling", "max", "--output", str(tmp_path)]
    result = CliRunner().invoke(train, [str(waves), *options])
    assert result.exit_code == 2
    assert "--pooling has no place" in result.output


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], ["--horizon", "--task"]),
        (["--task", "forecast"], ["--horizon"]),
        (["--task", "classify"], ["--pooling", "--target"]),
        (["--task=tag"], ["--target"]),
    ],
    ids=["none", "forecast", "classify", "tag"],
)
def test_help_tells_the_options_of_the_task(arguments: list[str], options: list[str]) -> None:
    output = CliRunner().invoke(train, [*arguments, "--help"]).output
    assert all(option in output for option in options)
