"""Tables to series, without a service."""

import datetime as dt
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import polars as pl
import pytest

from app.calendar import Frequency
from gatecast_client.answers import Forecast, SeriesForecast
from gatecast_client.tables import Columns, TableTask

Make = Callable[[Any], Any]
"""Makes a table of columns."""

CARD: dict[str, Any] = {"freq": "D", "horizon": 2}


def test_rows_after_the_last_value_are_the_future() -> None:
    columns = Columns(
        past_covariates=["price"], future_covariates=["promo"], static_covariates=["size"]
    )
    table = pd.DataFrame(
        {
            "item_id": "a",
            "timestamp": pd.date_range("2024-01-01", periods=5),
            "target": [1, None, 3, None, None],
            "price": [5, 6, 7, None, None],
            "promo": [0, 1, 0, 1, 1],
            "size": 4,
        }
    )
    task = TableTask(table, columns, CARD, freq=None, horizon=None)
    ((series,),) = task.parts()
    assert series.to_json() == {
        "item_id": "a",
        "start": "2024-01-01T00:00:00",
        "target": [1, None, 3],
        "past_covariates": {"price": [5, 6, 7]},
        "future_covariates": {"promo": [0, 1, 0, 1, 1]},
        "static_covariates": {"size": 4},
    }


def test_large_tables_are_divided() -> None:
    table = pd.DataFrame({"item_id": range(2500), "timestamp": "2024-01-01", "target": 1.0})
    task = TableTask(table, Columns(), CARD, freq=None, horizon=None)
    assert [len(part) for part in task.parts()] == [1000, 1000, 500]


def test_model_without_freq_needs_one() -> None:
    table = pd.DataFrame({"item_id": ["a"], "timestamp": "2024-01-01", "target": 1.0})
    with pytest.raises(ValueError, match="give freq"):
        TableTask(table, Columns(), CARD | {"freq": None}, freq=None, horizon=None)


def test_stamp_that_is_a_number_is_refused() -> None:
    table = pd.DataFrame({"item_id": ["a"], "timestamp": [1], "target": 1.0})
    with pytest.raises(TypeError, match="not int"):
        TableTask(table, Columns(), CARD, freq=None, horizon=None)


BERLIN = ZoneInfo("Europe/Berlin")
CLOCKS_BACK, CLOCKS_FORTH = dt.datetime(2024, 10, 27), dt.datetime(2024, 3, 31)


def zoned(make: Make, start: dt.datetime, hours: int, every: int = 1) -> Any:
    """Return a table of stamps in Berlin that many hours apart, over a change of the clocks."""
    first = start.replace(tzinfo=BERLIN).astimezone(dt.UTC)
    stamps = [first + dt.timedelta(hours=hour) for hour in range(0, hours, every)]
    local = [stamp.astimezone(BERLIN) for stamp in stamps]
    return make({"item_id": ["a"] * len(local), "timestamp": local, "target": [1.0] * len(local)})


def answer(*timestamps: str) -> list[Forecast]:
    one = SeriesForecast("a", timestamps, {0.5: [1.0] * len(timestamps)}, None)
    return [Forecast("m", 1, len(timestamps), (0.5,), (one,))]


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
@pytest.mark.parametrize(
    ("start", "stamp"),
    [(CLOCKS_BACK, "2024-10-26T22:00:00+00:00"), (CLOCKS_FORTH, "2024-03-30T23:00:00+00:00")],
)
def test_zoned_hours_are_counted_in_utc(make: Make, start: dt.datetime, stamp: str) -> None:
    task = TableTask(zoned(make, start, 48), Columns(), CARD, freq="h", horizon=None)
    ((series,),) = task.parts()
    assert (series.start, series.target) == (stamp, [1.0] * 48)
    found = task.to_table(answer("2024-12-31T23:00:00+00:00"))["timestamp"].to_list()
    assert found == [dt.datetime(2025, 1, 1, tzinfo=BERLIN)]
    assert found[0].utcoffset() == dt.timedelta(hours=1)


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_zoned_midnights_are_local_days(make: Make) -> None:
    table = make(
        {
            "item_id": ["a"] * 3,
            "timestamp": [dt.datetime(2024, 10, 26 + day, tzinfo=BERLIN) for day in range(3)],
            "target": [1.0, 2.0, 3.0],
        }
    )
    task = TableTask(table, Columns(), CARD, freq=None, horizon=None)
    ((series,),) = task.parts()
    assert (series.start, series.target) == ("2024-10-26T00:00:00", [1, 2, 3])
    found = task.to_table(answer("2024-10-29T00:00:00", "2025-04-01T00:00:00"))
    expected = [dt.datetime(2024, 10, 29, tzinfo=BERLIN), dt.datetime(2025, 4, 1, tzinfo=BERLIN)]
    assert found["timestamp"].to_list() == expected


def test_midnights_of_several_offsets_are_local_days() -> None:
    stamps = ["2024-03-31T00:00+01:00", "2024-04-01T00:00+02:00"]
    table = pd.DataFrame({"item_id": "a", "timestamp": stamps, "target": [1.0, 2.0]})
    ((series,),) = TableTask(table, Columns(), CARD, freq=None, horizon=None).parts()
    assert (series.start, series.target) == ("2024-03-31T00:00:00", [1, 2])


def test_zoned_stamps_of_one_offset_keep_it() -> None:
    table = zoned(pl.DataFrame, dt.datetime(2024, 7, 1), 24)
    ((series,),) = TableTask(table, Columns(), CARD, freq="h", horizon=None).parts()
    assert series.start == "2024-07-01T00:00:00+02:00"


def test_zones_in_some_stamps_alone_are_refused() -> None:
    stamps = ["2024-03-31T00:00", "2024-04-01T00:00+02:00"]
    table = pd.DataFrame({"item_id": "a", "timestamp": stamps, "target": 1.0})
    with pytest.raises(ValueError, match="have a time zone, others none"):
        TableTask(table, Columns(), CARD, freq=None, horizon=None)


def test_no_more_is_sent_than_the_model_reads() -> None:
    columns = Columns(past_covariates=["price"], future_covariates=["promo"])
    days = pd.date_range("2024-01-01", periods=12)
    steps = list(range(12))
    table = pd.DataFrame(
        {
            "item_id": "a",
            "timestamp": days,
            "target": [*steps[:10], None, None],
            "price": steps,
            "promo": steps,
        }
    )
    card = CARD | {"context_length": 3}
    ((series,),) = TableTask(table, columns, card, freq=None, horizon=None).parts()
    assert series.to_json() == {
        "item_id": "a",
        "start": "2024-01-08T00:00:00",
        "target": [7, 8, 9],
        "past_covariates": {"price": [7, 8, 9]},
        "future_covariates": {"promo": [7, 8, 9, 10, 11]},
    }


@pytest.mark.parametrize(
    ("first", "start"), [("2023-01-30", "2023-03-30"), ("2023-01-31", "2023-04-30")]
)
def test_series_that_is_cut_keeps_its_day_of_the_month(first: str, start: str) -> None:
    service = Frequency.parse("M")
    stamps = service.stamps(dt.datetime.fromisoformat(first), 0, 6)
    table = pd.DataFrame({"item_id": "a", "timestamp": stamps, "target": 1.0})
    card = {"freq": "M", "horizon": 1, "context_length": 3}
    ((series,),) = TableTask(table, Columns(), card, freq=None, horizon=None).parts()
    assert series.start == f"{start}T00:00:00"


def test_series_with_a_gap_where_it_is_cut_begins_at_a_row() -> None:
    days = ["2024-01-01", "2024-01-02", "2024-01-09", "2024-01-10"]
    table = pd.DataFrame({"item_id": "a", "timestamp": days, "target": 1.0})
    card = CARD | {"context_length": 4}
    ((series,),) = TableTask(table, Columns(), card, freq=None, horizon=None).parts()
    assert (series.start, len(series.target)) == ("2024-01-02T00:00:00", 9)


def test_parts_hold_a_bounded_number_of_values() -> None:
    days = pd.date_range("2020-01-01", periods=1300)
    table = pd.concat(
        [pd.DataFrame({"item_id": n, "timestamp": days, "target": 0.1}) for n in range(160)]
    )
    task = TableTask(table, Columns(past_covariates=["target"]), CARD, freq=None, horizon=None)
    assert [len(part) for part in task.parts()] == [76, 76, 8]


def test_stamp_that_is_missing_is_refused() -> None:
    table = pd.DataFrame({"item_id": ["a"], "timestamp": [pd.NaT], "target": 1.0})
    with pytest.raises(TypeError, match="not NaTType"):
        TableTask(table, Columns(), CARD, freq=None, horizon=None)
