"""Tables to series, without a service."""

from typing import Any

import pandas as pd
import pytest

from gatecast_client.tables import Columns, TableTask

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
