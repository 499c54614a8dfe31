import json
from pathlib import Path

from models.data import DataOptions, load_series

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_air_passengers_are_monthly_from_1949_to_1960() -> None:
    items, found = load_series(EXAMPLES / "air_passengers.csv", DataOptions())
    (series,) = items.series
    assert (items.freq, items.season, len(series.target)) == ("M", 12, 144)
    assert (found.num_gaps, found.num_missing) == (0, 0)
    # Box and Jenkins, series G: from 112 to 432 thousand passengers, 40,363 in all.
    assert (series.target[0], series.target[-1], series.target.sum()) == (112, 432, 40_363)


def test_request_holds_the_same_series() -> None:
    items, _ = load_series(EXAMPLES / "air_passengers.csv", DataOptions())
    request = json.loads((EXAMPLES / "request.json").read_text())
    assert request["series"][0]["target"] == items.series[0].target.tolist()
