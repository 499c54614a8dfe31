"""Forecasts of files: the same numbers as those of JSON, in every format."""

import calendar
import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
import pytest
from httpx import AsyncClient

from tests.api.raw import FORECAST_PATH
from tests.fakes import FakeRunners
from tests.full_disk import full_disk

CSV = "text/csv"
JSON_LINES = "application/jsonl"
PARQUET = "application/vnd.apache.parquet"
ARROW = "application/vnd.apache.arrow.stream"
FILE = "item_id,timestamp,target\na,2024-01-01,1\nb,2024-01-01,7\na,2024-02-01,\na,2024-03-01,3\n"
ITEMS = [
    {"item_id": "a", "start": "2024-01-01", "target": [1, None, 3]},
    {"item_id": "b", "start": "2024-01-01", "target": [7]},
]
OPTIONS = {"horizon": "2", "quantile_levels": "0.1,0.5"}


async def send(
    client: AsyncClient, accept: str, body: str = FILE, **options: str
) -> httpx.Response:
    headers = {"Content-Type": CSV, "Accept": accept}
    return await client.post(FORECAST_PATH, content=body, headers=headers, params=options)


@pytest.fixture
async def expected(client: AsyncClient) -> list[dict[str, Any]]:
    """One row a step, from the forecast of the same series by JSON."""
    body = {"series": ITEMS, "horizon": 2, "quantile_levels": [0.1, 0.5]}
    forecasts = (await client.post(FORECAST_PATH, json=body)).json()["forecasts"]
    return [
        {
            "item_id": one["item_id"],
            "timestamp": one["timestamps"][step],
            "0.1": one["quantiles"]["0.1"][step],
            "0.5": one["quantiles"]["0.5"][step],
        }
        for one in forecasts
        for step in range(2)
    ]


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def to_rows(table: pa.Table) -> list[dict[str, Any]]:
    return [
        {
            "item_id": row["item_id"],
            "timestamp": row["timestamp"].date().isoformat(),
            "0.1": pytest.approx(row["0.1"]),
            "0.5": pytest.approx(row["0.5"]),
        }
        for row in table.to_pylist()
    ]


async def test_csv_holds_the_same_forecast(
    client: AsyncClient, expected: list[dict[str, Any]]
) -> None:
    answer = await send(client, CSV, **OPTIONS)
    rows = list(csv.DictReader(answer.text.splitlines()))
    assert answer.headers["content-type"].startswith(CSV)
    assert [row["error"] for row in rows] == [""] * 4
    assert [row["timestamp"] for row in rows] == [row["timestamp"] for row in expected]
    assert [float(row["0.5"]) for row in rows] == [row["0.5"] for row in expected]


async def test_parquet_holds_the_same_forecast(
    client: AsyncClient, expected: list[dict[str, Any]]
) -> None:
    answer = await send(client, PARQUET, **OPTIONS)
    assert expected == to_rows(pyarrow.parquet.read_table(io.BytesIO(answer.content)))


async def test_arrow_stream_holds_the_same_forecast(
    client: AsyncClient, expected: list[dict[str, Any]]
) -> None:
    answer = await send(client, ARROW, **OPTIONS)
    assert expected == to_rows(pa.ipc.open_stream(answer.content).read_all())


async def test_json_lines_hold_the_same_forecast(
    client: AsyncClient, expected: list[dict[str, Any]]
) -> None:
    answer = await send(client, JSON_LINES, **OPTIONS)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["item_id"] for line in lines] == ["a", "b"]
    assert lines[0]["timestamps"] == [row["timestamp"] for row in expected[:2]]
    assert lines[0]["quantiles"]["0.1"] == [row["0.1"] for row in expected[:2]]


@pytest.mark.parametrize("accept", ["*/*", "application/json, text/html;q=0.9"])
async def test_answer_has_the_format_of_the_body_unless_told(
    client: AsyncClient, accept: str
) -> None:
    assert (await send(client, accept)).headers["content-type"].startswith(CSV)


async def test_every_series_of_a_long_file_is_answered_once(client: AsyncClient) -> None:
    rows = [f"{item:04},2024-01-01,{item}\n" for item in range(700)]
    body = "item_id,timestamp,target\n" + "".join(rows)
    answer = await send(client, CSV, body, horizon="1", freq="M")
    found = [row["item_id"] for row in csv.DictReader(answer.text.splitlines())]
    assert found == [f"{item:04}" for item in range(700)]


async def test_fractions_of_seconds_are_kept(client: AsyncClient) -> None:
    body = "timestamp,target\n2024-01-01T00:00:00.5,1\n2024-02-01T00:00:00.5,2\n"
    answer = await send(client, CSV, body, horizon="1")
    (row,) = csv.DictReader(answer.text.splitlines())
    assert row["timestamp"] == "2024-03-01T00:00:00.500000"


async def test_plain_steps_are_counted_from_one(client: AsyncClient) -> None:
    answer = await send(client, CSV, "1\n2\n3\n", horizon="2")
    assert [row["timestamp"] for row in csv.DictReader(answer.text.splitlines())] == ["1", "2"]


async def test_series_without_a_forecast_has_its_reason(client: AsyncClient) -> None:
    body = "item_id,timestamp,target\na,9999-11-01,1\nb,2024-01-01,1\nb,2024-02-01,1\n"
    rows = list(csv.DictReader((await send(client, CSV, body, horizon="2")).text.splitlines()))
    assert [row["item_id"] for row in rows] == ["a", "b", "b"]
    assert "years 1 to 9999" in rows[0]["error"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"horizon": "99"}, "horizon must be between 1 and 12"),
        ({"horizon": "0"}, "horizon"),
        ({"quantile_levels": "0.1;0.5"}, "quantile_levels"),
        ({"quantile_levels": "0.5,0.1"}, "ascend"),
        ({"freq": "D"}, "freq must be M"),
        ({"target": "price"}, "column price for target is not there"),
    ],
)
async def test_wrong_option_is_422(client: AsyncClient, options: dict[str, str], word: str) -> None:
    answer = await send(client, CSV, **options)
    assert answer.status_code == 422
    assert word in answer.json()["detail"]


async def test_broken_cell_is_refused_before_anything_is_answered(client: AsyncClient) -> None:
    answer = await send(client, CSV, FILE + "a,2024-04-01,many\n")
    assert answer.status_code == 422
    assert "column target, row 6: 'many'" in answer.json()["detail"]


SHOP = "/v1/models/shop/forecast"
SHOP_FILE = """item_id,timestamp,target,price,holiday,promo/week,size
a,2024-01-01,1,10,0,1,5
b,2024-01-01,7,,1,0,6
a,2024-02-01,2,11,0,,5
a,2024-03-01,,,1,2,
b,2024-02-01,,99,0,3,6
"""


async def test_model_with_covariates_says_what_it_needs(client: AsyncClient) -> None:
    answer = await client.post(SHOP, content=FILE, headers={"Content-Type": CSV})
    assert answer.status_code == 422
    assert "price, holiday, promo/week, size must be columns" in answer.json()["detail"]


async def test_covariates_of_a_file_are_those_of_json(
    client: AsyncClient, runners: FakeRunners
) -> None:
    items = [
        {
            "item_id": "a", "start": "2024-01-01", "target": [1, 2],
            "past_covariates": {"price": [10, 11]},
            "future_covariates": {"holiday": [0, 0, 1], "promo/week": [1, None, 2]},
            "static_covariates": {"size": 5},
        },
        {
            "item_id": "b", "start": "2024-01-01", "target": [7],
            "past_covariates": {"price": [None]},
            "future_covariates": {"holiday": [1, 0], "promo/week": [0, 3]},
            "static_covariates": {"size": 6},
        },
    ]  # fmt: skip
    asked = {"series": items, "horizon": 1, "quantile_levels": [0.5], "freq": "M"}
    expected = (await client.post(SHOP, json=asked)).json()["forecasts"]
    by_json = runners.inferences[-1].inputs
    headers = {"Content-Type": CSV, "Accept": JSON_LINES}
    options = {"horizon": "1", "quantile_levels": "0.5"}
    answer = await client.post(SHOP, content=SHOP_FILE, headers=headers, params=options)
    assert [json.loads(line) for line in answer.text.splitlines()] == expected
    by_file = runners.inferences[-1].inputs
    assert by_file.keys() == by_json.keys()
    for name, tensor in by_file.items():
        np.testing.assert_array_equal(tensor, by_json[name], name)


async def test_future_that_is_too_short_is_refused_with_its_item(client: AsyncClient) -> None:
    headers = {"Content-Type": CSV}
    answer = await client.post(SHOP, content=SHOP_FILE, headers=headers, params={"horizon": "2"})
    assert answer.status_code == 422
    assert (
        "column holiday must tell 2 steps after the last value of target of item a"
        in (answer.json()["detail"])
    )


async def test_one_version_can_be_asked(client: AsyncClient) -> None:
    path = "/v1/models/monthly/versions/1/forecast"
    answer = await client.post(path, content=FILE, headers={"Content-Type": CSV})
    assert len(answer.text.splitlines()) == 1 + 2 * 3


async def test_arrow_stream_is_forecast(
    client: AsyncClient, expected: list[dict[str, Any]]
) -> None:
    table = pyarrow.csv.read_csv(io.BytesIO(FILE.encode()))
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    headers = {"Content-Type": ARROW}
    answer = await client.post(
        FORECAST_PATH, content=sink.getvalue(), headers=headers, params=OPTIONS
    )
    assert answer.headers["content-type"] == ARROW
    assert expected == to_rows(pa.ipc.open_stream(answer.content).read_all())


async def test_long_file_in_order_of_time_is_answered_and_leaves_nothing_behind(
    client: AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    months = [f"{year}-{month:02}" for year in range(2000, 2012) for month in range(1, 13)]
    rows = [f"i{item},{month},{item}" for month in months for item in range(1000)]
    body = "\n".join(["item_id,timestamp,target", *rows])
    answer = await send(client, CSV, body, horizon="1", quantile_levels="0.5")
    found = list(csv.DictReader(answer.text.splitlines()))
    assert {row["item_id"]: float(row["0.5"]) for row in found} == {
        f"i{item}": item + 1 for item in range(1000)
    }
    assert len(found) == 1000
    assert names_in(tmp_path) == []


def monthly_rows(day: int, first: str, count: int) -> list[str]:
    """Return rows of one series on a day of the month, or on the last day where there is none."""
    months = np.datetime64(first, "M") + np.arange(count)
    ends = [calendar.monthrange(*map(int, str(month).split("-")))[1] for month in months]
    return [f"a,{month}-{min(day, end)},1" for month, end in zip(months, ends, strict=True)]


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (28, ["2023-04-28", "2023-05-28", "2023-06-28"]),
        (30, ["2023-04-30", "2023-05-30", "2023-06-30"]),
        (31, ["2023-04-30", "2023-05-31", "2023-06-30"]),
    ],
)
@pytest.mark.parametrize("first", ["2018-12", "2019-01", "2019-03"])
async def test_day_of_the_month_is_that_of_the_first_row(
    client: AsyncClient, day: int, first: str, expected: list[str]
) -> None:
    count = (np.datetime64("2023-04") - np.datetime64(first)).astype(int)
    body = "\n".join(["item_id,timestamp,target", *monthly_rows(day, first, count)])
    answer = await send(client, CSV, body, horizon="3", quantile_levels="0.5")
    assert [row["timestamp"] for row in csv.DictReader(answer.text.splitlines())] == expected


def sound_and_refused(*parts: tuple[str, int]) -> str:
    """Return a file of series that have one value, or none (``""``)."""
    values = [value for value, count in parts for _ in range(count)]
    rows = [f"{item:04},2024-01-01,{value}" for item, value in enumerate(values)]
    return "\n".join(["item_id,timestamp,target", *rows])


@pytest.mark.parametrize(
    "parts",
    [[("", 600), ("1", 1)], [("1", 1), ("", 600)], [("", 300), ("1", 1), ("", 300)]],
    ids=["sound one last", "sound one first", "sound one between"],
)
@pytest.mark.parametrize("accept", [CSV, PARQUET, JSON_LINES])
async def test_sound_series_is_forecast_wherever_it_is(
    client: AsyncClient, parts: list[tuple[str, int]], accept: str
) -> None:
    body = sound_and_refused(*parts)
    answer = await send(client, accept, body, horizon="1", freq="M", quantile_levels="0.5")
    assert answer.status_code == 200
    if accept == CSV:
        errors = [row["error"] for row in csv.DictReader(answer.text.splitlines())]
    elif accept == PARQUET:
        errors = pyarrow.parquet.read_table(io.BytesIO(answer.content))["error"].to_pylist()
    else:
        errors = [json.loads(line).get("error") for line in answer.text.splitlines()]
    reasons = [error for error in errors if error]
    assert (len(errors), len(reasons)) == (sum(count for _, count in parts), len(errors) - 1)
    assert set(reasons) == {"target must have at least 1 value"}


async def test_refused_series_are_answered_in_the_order_of_the_file(client: AsyncClient) -> None:
    body = sound_and_refused(("", 600), ("1", 1))
    answer = await send(client, CSV, body, horizon="1", freq="M")
    found = [row["item_id"] for row in csv.DictReader(answer.text.splitlines())]
    assert found == [f"{item:04}" for item in range(601)]


@pytest.mark.parametrize("num_series", [2, 257, 600])
async def test_file_without_a_sound_series_is_422(client: AsyncClient, num_series: int) -> None:
    rows = [f"{item},9999-12-01,1" for item in range(num_series)]
    body = "\n".join(["item_id,timestamp,target", *rows])
    answer = await send(client, CSV, body, horizon="1", freq="M")
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (422, "invalid-series")
    assert problem["detail"] == f"none of the {num_series} series is valid"
    assert [one["pointer"] for one in problem["errors"][:2]] == [
        "/series/0/start",
        "/series/1/start",
    ]


async def test_series_refused_for_different_reasons_have_their_own(client: AsyncClient) -> None:
    rows = [f"{item:04},2024-01-01,1" for item in range(256)]
    rows += ["late,9999-12-01,1", "empty,2024-01-01,"]
    body = "\n".join(["item_id,timestamp,target", *rows])
    answer = await send(client, CSV, body, horizon="1", freq="M")
    late, empty = list(csv.DictReader(answer.text.splitlines()))[-2:]
    assert "years 1 to 9999" in late["error"]
    assert empty["error"] == "target must have at least 1 value"


def by_month(num_items: int, num_months: int) -> str:
    """Return a file in order of time, whose rows have to be divided."""
    months = np.datetime64("2000-01", "M") + np.arange(num_months)
    rows = [f"i{item},{month},{item}" for month in months for item in range(num_items)]
    return "\n".join(["item_id,timestamp,target", *rows])


@pytest.mark.parametrize(
    ("max_bytes", "said"),
    [(2**16, "the body can not be kept"), (2_300_000, "the rows of the file can not be kept")],
    ids=["of the body", "of the rows"],
)
async def test_full_disk_is_503_and_leaves_nothing_behind(
    client: AsyncClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    max_bytes: int,
    said: str,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    body = by_month(100, 1440)
    with full_disk(max_bytes):
        answer = await send(client, CSV, body, horizon="1")
    assert (answer.status_code, answer.json()["type"]) == (503, "storage")
    assert said in answer.json()["detail"]
    assert str(tmp_path) not in answer.text
    assert int(answer.headers["retry-after"]) > 0
    assert names_in(tmp_path) == []


async def test_full_disk_is_503_where_a_text_is_written_in_utf_8(
    client: AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rows = [f"{'é' * 1000}{item},2024-01-01,1" for item in range(1500)]
    body = "\n".join(["item_id,timestamp,target", *rows]).encode("latin-1")
    headers = {"Content-Type": "text/csv; charset=iso-8859-1"}
    with full_disk(2**21):
        answer = await client.post(FORECAST_PATH, content=body, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (503, "storage")
    assert "the text of the file can not be kept" in answer.json()["detail"]
    assert names_in(tmp_path) == []


async def test_folder_of_temporary_files_that_is_gone_is_503(
    client: AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    answer = await send(client, CSV, by_month(1000, 144), horizon="1")
    assert (answer.status_code, answer.json()["type"]) == (503, "storage")
    assert str(tmp_path) not in answer.text
