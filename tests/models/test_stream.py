import datetime as dt
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from click.testing import CliRunner

from app.errors import InvalidInputError
from models.batches import Drawing, RandomBatches, TrainingPart, series_weights
from models.calendar_columns import add_calendar, choose_calendar
from models.checkpoint import load_checkpoint
from models.commands import train
from models.data import DataOptions, load_series
from models.series import SeriesSet
from models.stored_data import Store, load_data

ROWS_A_GROUP = 100  # so that most items lie in two row groups
OPTIONS = DataOptions(
    past_covariates=("p",),
    future_covariates=("f",),
    static_covariates=("s",),
    static_categories=("kind",),
)


@pytest.fixture
def frame() -> pl.DataFrame:
    """Hourly items of 1 to 400 rows: gaps, missing values, a repeated row, rows out of order."""
    random = np.random.default_rng(1)
    parts = []
    for number, length in enumerate([400, 1, 30, 250, 70, 2, 64, 64]):
        steps = np.sort(random.choice(length + 3, length, replace=False))
        if number == 3:
            random.shuffle(steps)
        hours = [dt.datetime(2024, 1, 1) + dt.timedelta(hours=int(step)) for step in steps]
        target = np.where(random.random(length) < 0.1, np.nan, random.normal(5, 1, length))
        part = pl.DataFrame(
            {
                "item_id": [f"item {9 - number}"] * length,
                "timestamp": hours,
                "target": target,
                "p": random.normal(size=length),
                "f": np.where(random.random(length) < 0.2, np.nan, random.normal(size=length)),
                "s": [float(number)] * length,
                "kind": pl.Series(["wide" if number % 2 else None] * length, dtype=pl.String),
                "unused": ["x"] * length,
            }
        )
        parts += [part, part[-1:]] if number == 4 else [part]
    return pl.concat(parts)


@pytest.fixture
def file(frame: pl.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "data.parquet"
    frame.write_parquet(path, row_group_size=ROWS_A_GROUP)
    return path


@pytest.fixture
def both(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[SeriesSet, SeriesSet]:
    """The same file, read at once and part by part."""
    monkeypatch.setattr("models.stream._BATCH_ROWS", 33)
    at_once, found = load_series(file, OPTIONS)
    streamed, found_in_parts = load_data(file, OPTIONS, Store(tmp_path / "store"))
    assert asdict(found) == asdict(found_in_parts)
    assert (found.num_repeated, found.is_sorted) == (1, False)
    return at_once, streamed


def test_streamed_series_are_those_read_at_once(both: tuple[SeriesSet, SeriesSet]) -> None:
    at_once, streamed = both
    assert streamed.digest == at_once.digest
    assert replace(streamed, series=()) == replace(at_once, series=())
    for one, other in zip(at_once.series, streamed.series, strict=True):
        assert (one.item_id, one.start) == (other.item_id, other.start)
        for name in ("target", "past_covariates", "future_covariates", "static_covariates"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_streamed_series_make_the_same_batches(both: tuple[SeriesSet, SeriesSet]) -> None:
    calendar = choose_calendar(both[0], is_cyclic=True, country=None)
    drawn = []
    for items in both:
        extended = add_calendar(items, calendar, horizon=6)
        limits = tuple(max(2, length - 6) for length in extended.lengths)
        weights = series_weights(extended, limits, is_log=True, mase_share=0.5)
        part = TrainingPart(extended, limits, weights)
        batches = RandomBatches(part, Drawing(batch_size=5, crop_length=50, seed=1), horizon=6)
        drawn.append([batches[number] for number in range(4)])
    torch.testing.assert_close(*drawn, rtol=0, atol=0, equal_nan=True)
    assert drawn[0][0]["future_covariates"].shape[2] > 1


def test_store_is_made_once_of_a_file(file: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    load_data(file, OPTIONS, store)
    written = (store.folder / "target.f8").stat().st_mtime_ns
    load_data(file, OPTIONS, store)
    assert (store.folder / "target.f8").stat().st_mtime_ns == written
    without = replace(OPTIONS, static_categories=())
    items, _ = load_data(file, without, store)
    assert items.static_covariates == ("s",)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param([("a", 1, 1.0), ("b", 1, 1.0), ("a", 2, 1.0)],
                     "row 3: item a comes again .* ORDER BY", id="not together"),
        pytest.param([("a", 1, 1.0), ("a", 2, 1e39)], "column y, row 2: 1e[+]39 is beyond",
                     id="cell"),
        pytest.param([("a", 1, 1.0), ("a", 1, 2.0)], "rows 1, 2 give different", id="conflict"),
        pytest.param([("a", 1, 1.0), ("b", 1, 2.0)], "no series of data.parquet has two",
                     id="short"),
        pytest.param([("a", "2024-01-01", 1.0)], "column ds holds texts", id="text"),
    ],
)  # fmt: skip
def test_wrong_file_is_refused(
    tmp_path: Path, rows: list[tuple[str, int | str, float]], message: str
) -> None:
    path = tmp_path / "data.parquet"
    pl.DataFrame(rows, schema=["unique_id", "ds", "y"], orient="row").write_parquet(path)
    with pytest.raises(InvalidInputError, match=message):
        load_data(path, DataOptions(season=1), Store(tmp_path / "store"))


def test_only_parquet_is_streamed(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("unique_id,ds,y\na,1,1\na,2,2\n")
    with pytest.raises(InvalidInputError, match="only Parquet"):
        load_data(path, DataOptions(season=1), Store(tmp_path / "store"))


def test_command_trains_alike_with_and_without_streaming(file: Path, tmp_path: Path) -> None:
    options = [
        *("--horizon", "4", "--season", "4", "--hidden-size", "4", "--num-layers", "1"),
        *("--members", "2", "--max-steps", "2", "--search-steps", "--past-covariates", "p"),
        *("--static-categories", "kind", "--calendar", "--context-length", "40"),
    ]
    for name in ("stream", "no-stream"):
        arguments = [str(file), "--output", str(tmp_path / name), *options, f"--{name}"]
        assert CliRunner().invoke(train, arguments, catch_exceptions=False).exit_code == 0
    one, other = (load_checkpoint(tmp_path / name) for name in ("stream", "no-stream"))
    assert one.training == other.training
    for weight, same in zip(
        one.network.state_dict().values(), other.network.state_dict().values(), strict=True
    ):
        assert torch.equal(weight, same)
    assert not (tmp_path / "stream" / "training-series").exists()


@pytest.mark.parametrize(("every", "start"), [("1h", "2024-10-25T22"), ("1d", "2024-10-26")])
def test_zone_is_dropped_as_the_whole_file_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: str, start: str
) -> None:
    monkeypatch.setattr("models.stream._BATCH_ROWS", 3)
    first, last = dt.datetime(2024, 10, 26), dt.datetime(2024, 10, 29)
    stamps = pl.datetime_range(first, last, every, time_zone="Europe/Berlin", eager=True)
    rows = pl.DataFrame({"item_id": "a", "timestamp": stamps, "target": np.arange(len(stamps))})
    rows.write_parquet(tmp_path / "data.parquet")
    at_once, _ = load_series(tmp_path / "data.parquet", DataOptions())
    streamed, _ = load_data(tmp_path / "data.parquet", DataOptions(), Store(tmp_path / "store"))
    assert (streamed.digest, streamed.freq) == (at_once.digest, at_once.freq)
    (series,) = streamed.series
    assert series.start == dt.datetime.fromisoformat(start)
    assert series.target.tolist() == list(range(len(stamps)))


def test_space_around_categories_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    kinds = ["north ", " "]
    pl.DataFrame({"item_id": "a", "timestamp": [1, 2], "target": 1, "kind": kinds}).write_parquet(
        path
    )
    options = DataOptions(season=1, static_categories=("kind",))
    items, _ = load_data(path, options, Store(tmp_path / "store"))
    assert items.static_categories == (("north",),)
