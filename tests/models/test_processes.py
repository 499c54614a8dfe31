import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from click.testing import CliRunner

from app.errors import InvalidInputError
from models.batches import Drawing, RandomBatches, TrainingPart, ValidationBatches
from models.checkpoint import load_checkpoint
from models.commands import train
from models.config import NetworkConfig
from models.processes import ProcessesError, must_start, run_in_processes
from models.series import Series, SeriesSet
from models.shards import RowDropout, Shard, draw_like, drawing
from models.training import TrainingOptions
from tests import parallel_fit

PATIENCE_S = 300
SAME_LOSS = 1e-4
"""Sums of float32 in another order, and an optimiser in which the difference grows."""

TINY = ["--horizon", "4", "--season", "4", "--hidden-size", "4", "--num-layers", "1"]


def rows_with_names(num_series: int) -> SeriesSet:
    """Series that all of their values tell apart, of different lengths."""
    lengths = range(20, 20 + num_series)
    series = (Series(str(i), np.full(length, 1.0 + i)) for i, length in enumerate(lengths))
    return SeriesSet(tuple(series), None, 1)


@pytest.fixture
def part() -> TrainingPart:
    items = rows_with_names(9)
    return TrainingPart(items, tuple(length - 3 for length in items.lengths), np.ones(9))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shards_of_a_batch_are_disjoint_and_complete(part: TrainingPart, count: int) -> None:
    how = Drawing(batch_size=8, crop_length=18, seed=1)
    whole = RandomBatches(part, how, horizon=3)[5]
    for rank in range(count):
        shard = Shard(rank, count)
        batch = RandomBatches(part, replace(how, shard=shard), horizon=3)[5]
        for name, values in batch.items():
            torch.testing.assert_close(values, whole[name][shard.rows], equal_nan=True)
            whole[name][shard.rows] = -1
    assert (whole["past_target"] == -1).all()


@pytest.mark.parametrize("count", [2, 12])
def test_every_held_back_window_is_scored_once(part: TrainingPart, count: int) -> None:
    shards = [
        ValidationBatches(part, horizon=3, context_length=18, shard=Shard(rank, count))
        for rank in range(count)
    ]
    assert {(len(shard), shard.num_rows) for shard in shards} == {(1, 9)}
    batches = [shard[0] for shard in shards]
    counted = [batch["past_target"][batch["weights"] > 0, 0] for batch in batches]
    scored = sorted(torch.cat(counted).tolist())
    assert scored == [1.0 + i for i in range(9)]


def test_random_numbers_do_not_depend_on_the_number_of_processes() -> None:
    dropout = RowDropout(0.5)
    ones = torch.ones(7, 5, 3)
    torch.manual_seed(1)
    whole = (dropout(ones), torch.randn(5, 2))
    for rank in range(2):
        torch.manual_seed(1)
        with drawing(Shard(rank, 2), num_rows=5):
            rows = dropout(ones[:, rank::2])
            noise = draw_like(torch.empty(len(range(rank, 5, 2)), 2), torch.randn_like)
        assert torch.equal(rows, whole[0][:, rank::2])
        assert torch.equal(noise, whole[1][rank::2])


@pytest.fixture
def kinds(waves: SeriesSet) -> SeriesSet:
    """Series with all that draws random numbers in training."""
    series = (
        replace(item, static_covariates=np.array([1.0 + row % 2]))
        for row, item in enumerate(waves.series)
    )
    return replace(
        waves,
        series=tuple(series),
        static_covariates=("kind",),
        static_categories=(("a", "b"),),
    )


def test_two_processes_have_the_losses_of_one(
    kinds: SeriesSet, tiny_config: NetworkConfig, short_training: TrainingOptions, tmp_path: Path
) -> None:
    config = replace(
        tiny_config,
        dropout=0.2,
        input_noise=0.1,
        static_covariates=kinds.static_covariates,
        static_categories=kinds.static_categories,
    )
    options = replace(short_training, batch_size=5, max_origins=20)  # shards of 3 and 2 series
    one, two = tmp_path / "one", tmp_path / "two"
    for directory in (one, two):
        directory.mkdir()
    parallel_fit.fit(kinds, config, options, one)
    shared = partial(parallel_fit.fit_with_another, kinds, config, options, two)
    run_in_processes(shared, num_devices=2, num_nodes=1)
    alone, together = (
        [list(check.values()) for check in json.loads((each / parallel_fit.LOSSES).read_text())]
        for each in (one, two)
    )
    assert len(alone) == 4
    np.testing.assert_allclose(together, alone, rtol=SAME_LOSS)


def test_lost_process_ends_all_and_is_named() -> None:
    with pytest.raises(ProcessesError, match="process 1 ended with SIGKILL"):
        run_in_processes(parallel_fit.lose_one, num_devices=2, num_nodes=1)


def test_failing_process_ends_all_with_its_trace() -> None:
    with pytest.raises(ProcessesError, match="process 1 failed: ZeroDivisionError"):
        run_in_processes(parallel_fit.fail_in_one, num_devices=2, num_nodes=1)


@pytest.fixture
def data_file(waves: SeriesSet, tmp_path: Path) -> Path:
    lines = ["item_id,timestamp,target"]
    for item in waves.series:
        lines += [f"{item.item_id},{step},{value}" for step, value in enumerate(item.target)]
    path = tmp_path / "waves.csv"
    path.write_text("\n".join(lines))
    return path


def test_command_trains_with_two_processes_that_share_a_store(
    data_file: Path, tmp_path: Path
) -> None:
    data = data_file.with_suffix(".parquet")
    pl.read_csv(data_file).write_parquet(data)
    options = ["--max-steps", "3", "--members", "1", "--stream"]
    arguments = [str(data), "--output", str(tmp_path / "run"), *TINY, *options]
    result = CliRunner().invoke(train, [*arguments, "--devices", "2"], catch_exceptions=False)
    assert result.exit_code == 0
    assert load_checkpoint(tmp_path / "run").training.config["num_steps"] == [3]
    written = {path.name for path in (tmp_path / "run").iterdir()}
    assert written == {"forecaster.pt", "forecaster.json", "learning_curve.png"}


def test_more_processes_than_series_in_a_batch_are_refused(data_file: Path, tmp_path: Path) -> None:
    arguments = [str(data_file), "--output", str(tmp_path / "run"), *TINY, "--batch-size", "1"]
    with pytest.raises(InvalidInputError, match="a batch of 1 series can not be shared by 2"):
        CliRunner().invoke(train, [*arguments, "--devices", "2"], catch_exceptions=False)


def test_several_nodes_must_be_told_where_to_meet(data_file: Path, tmp_path: Path) -> None:
    arguments = [str(data_file), "--output", str(tmp_path / "run"), *TINY, "--num-nodes", "2"]
    with pytest.raises(InvalidInputError, match="needs MASTER_ADDR, MASTER_PORT, NODE_RANK"):
        CliRunner().invoke(train, arguments, catch_exceptions=False)


def test_processes_that_torchrun_started_are_not_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("RANK", "1"), ("LOCAL_RANK", "1"), ("WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    assert not must_start(2, 2)
    with pytest.raises(InvalidInputError, match="4 processes were started, but --devices 1"):
        must_start(1, 1)


def command(data: Path, output: Path, *options: str) -> list[str]:
    arguments = [str(data), "--output", str(output), *TINY, "--members", "1", *options]
    return [sys.executable, "-m", "app", "train", *arguments]


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = (load_checkpoint(each).network.state_dict() for each in (one, other))
    for name, weight in first.items():
        torch.testing.assert_close(second[name], weight, rtol=0, atol=SAME_LOSS)


@pytest.mark.slow
@pytest.mark.timeout(1000)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_processes_are_continued_by_one(
    data_file: Path, tmp_path: Path, number: signal.Signals
) -> None:
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    options = ["--max-steps", "100", "--search-steps"]
    arguments = command(data_file, stopped, *options, "--devices", "2")
    with subprocess.Popen(arguments) as process:  # noqa: S603 - our own command
        deadline = time.monotonic() + PATIENCE_S
        while not (stopped / "training" / "search-log.ckpt").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 130
    assert not (stopped / "forecaster.json").exists()
    for directory in (stopped, whole):
        subprocess.run(command(data_file, directory, *options), check=True)  # noqa: S603
    assert_same_weights(stopped, whole)


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_two_nodes_train_together(data_file: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    options = ["--max-steps", "20", "--search-steps"]
    subprocess.run(command(data_file, one, *options), check=True)  # noqa: S603
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meeting = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    arguments = command(data_file, two, *options, "--num-nodes", "2")
    nodes = [
        subprocess.Popen(arguments, env=meeting | {"NODE_RANK": str(rank)})  # noqa: S603
        for rank in range(2)
    ]
    assert [node.wait(PATIENCE_S) for node in nodes] == [0, 0]
    assert_same_weights(one, two)


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_torchrun_starts_the_processes(data_file: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    options = ["--max-steps", "20"]
    subprocess.run(command(data_file, one, *options), check=True)  # noqa: S603
    starter = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m"]
    arguments = command(data_file, two, *options, "--devices", "2")[2:]
    subprocess.run([*starter, *arguments], check=True)  # noqa: S603
    assert_same_weights(one, two)
