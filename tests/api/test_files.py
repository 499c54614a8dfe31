"""``POST /v1/series``: sound files of many makes, and broken ones."""

import gzip
import io
import re
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest
from httpx import AsyncClient

from app.gateway.file_types import MEDIA_TYPES

EXAMPLE = Path(__file__).parents[2] / "examples" / "air_passengers.csv"
CSV = "text/csv"
JSON_LINES = "application/jsonl"
PARQUET = "application/vnd.apache.parquet"
ARROW = "application/vnd.apache.arrow.stream"
ROWS = "item_id,timestamp,target\n"
JSON_ROWS = """
{"item_id": "a", "timestamp": "2024-01-01", "target": 1}
{"item_id": "a", "timestamp": "2024-03-01", "target": 3}
"""
MONTHS = ["2024-01-01", "2024-02-01", "2024-03-01"]


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), sink)
    return sink.getvalue()


def sound_parquet() -> bytes:
    return parquet(item_id=["a"] * 3, timestamp=MONTHS, target=[1.0, None, 3.0])


def arrow(compression: str | None = None, *, as_file: bool = False, **columns: Any) -> bytes:
    sink = io.BytesIO()
    table = pa.table(columns)
    options = pa.ipc.IpcWriteOptions(compression=compression)
    make = pa.ipc.new_file if as_file else pa.ipc.new_stream
    with make(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue()


def sound_arrow(compression: str | None = None, *, as_file: bool = False) -> bytes:
    target = [1.0, None, 3.0]
    return arrow(compression, as_file=as_file, item_id=["a"] * 3, timestamp=MONTHS, target=target)


def bomb() -> bytes:
    """A few kilobytes that hold 400 MB once decompressed."""
    sink = io.BytesIO()
    table = pa.table({"target": pa.array([0.0] * 500_000)})
    columns = {f"x{index}": table["target"] for index in range(100)}
    pyarrow.parquet.write_table(
        pa.table({"target": table["target"], **columns}),
        sink,
        compression="zstd",
        use_dictionary=False,
    )
    return sink.getvalue()


async def send(
    client: AsyncClient, body: str | bytes, media_type: str = CSV, **query: str
) -> httpx.Response:
    content = body if isinstance(body, bytes) else body.encode()
    headers = {"Content-Type": media_type}
    return await client.post("/v1/series", content=content, headers=headers, params=query)


SOUND: dict[str, tuple[str | bytes, str]] = {
    "commas": (f"{ROWS}a,2024-01-01,1\na,2024-02-01,\na,2024-03-01,3\n", CSV),
    "other names": ("unique_id,ds,y\na,2024-01-01,1\na,2024-02-01,NA\na,2024-03-01,3\n", CSV),
    "names nobody knows": ("shop,day of sale,sold\na,2024-01-01,1\na,2024-03-01,3\n", CSV),
    "semicolons": ("item_id;timestamp;target\na;2024-01-01;1,0\na;2024-03-01;3,0\n", CSV),
    "tabs": ("item_id\ttimestamp\ttarget\na\t2024-01-01\t1\na\t2024-03-01\t3\n", CSV),
    "byte order mark": (f"\ufeff{ROWS}a,2024-01-01,1\na,2024-03-01,3\n", CSV),
    "UTF-16": (f"{ROWS}a,2024-01-01,1\na,2024-03-01,3\n".encode("utf-16"), CSV),
    "Windows line ends": (f"{ROWS}a,2024-01-01,1\na,2024-03-01,3\n".replace("\n", "\r\n"), CSV),
    "Macintosh line ends": (f"{ROWS}a,2024-01-01,1\na,2024-03-01,3\n".replace("\n", "\r"), CSV),
    "quotes": ('item_id,timestamp,target\n"a","2024-01-01","1"\n"a","2024-03-01","3"\n', CSV),
    "any order": (f"{ROWS}a,2024-03-01,3\na,2024-01-01,1\n", CSV),
    "a row twice": (f"{ROWS}a,2024-01-01,1\na,2024-01-01,1\na,2024-03-01,3\n", CSV),
    "months": (f"{ROWS}a,2024-01,1\na,2024-03,3\n", CSV),
    "JSON Lines": (JSON_ROWS, JSON_LINES),
    "Parquet": (sound_parquet(), PARQUET),
    "Arrow stream": (sound_arrow(), ARROW),
    "Arrow file": (sound_arrow(as_file=True), ARROW),
}


@pytest.mark.parametrize("name", SOUND)
async def test_sound_file_is_understood(client: AsyncClient, name: str) -> None:
    body, media_type = SOUND[name]
    answer = await send(client, body, media_type, freq="M")
    series = answer.json()["series"]
    assert answer.status_code == 200
    assert [one["item_id"] for one in series] == ["a"]
    assert series[0]["target"] == [1, None, 3]
    assert series[0]["timestamps"] == MONTHS


BROKEN: dict[str, tuple[str | bytes, str, int, list[str]]] = {
    "empty": ("", CSV, 400, ["empty"]),
    "only blanks": (" \n\n", CSV, 400, ["empty"]),
    "only a header": (ROWS, CSV, 422, ["no rows"]),
    "Latin-1 unsaid": (f"{ROWS}Köln,2024-01-01,1\n".encode("latin-1"), CSV, 400, ["row 2"]),
    "zero bytes": (f"{ROWS}a,2024-01-01,1\n\0\0\n", CSV, 400, ["row 3", "zero byte"]),
    "UTF-16 without mark": (f"{ROWS}a,2024-01-01,1\n".encode("utf-16-le"), CSV, 400, ["zero byte"]),
    "charset nobody knows": (ROWS, f"{CSV}; charset=klingon", 422, ["charset"]),
    "a cell too many": (f"{ROWS}a,2024-01-01,1\na,2024-02-01,2,5\n", CSV, 422, ["row 3", "4"]),
    "a cell too few": (f"{ROWS}a,2024-01-01\n", CSV, 422, ["row 2", "2 cells", "3 columns"]),
    "decimal commas among commas": (f"{ROWS}a,2024-01-01,1,5\n", CSV, 422, ["row 2", "4 cells"]),
    "thousands": (
        "item_id;timestamp;target\na;2024-01-01;1,5\na;2024-02-01;1.234,5\n",
        CSV, 422, ["column target", "row 3", "1.234,5"],
    ),
    "mixed decimals": (
        "item_id;timestamp;target\na;2024-01-01;1.5\na;2024-02-01;2,5\n",
        CSV, 422, ["column target", "row 3", "2,5"],
    ),
    "text among numbers": (
        f"{ROWS}a,2024-01-01,1\na,2024-02-01,many\n", CSV, 422, ["column target", "row 3", "many"],
    ),
    "hexadecimal": (f"{ROWS}a,2024-01-01,0x1F\n", CSV, 422, ["column target", "row 2"]),
    "infinity": (f"{ROWS}a,2024-01-01,inf\n", CSV, 422, ["column target", "row 2"]),
    "too large": (f"{ROWS}a,2024-01-01,1e300\n", CSV, 422, ["column target", "row 2", "1e+30"]),
    "no number at all": (f"{ROWS}a,2024-01-01,\n", CSV, 422, ["column target", "no number"]),
    "no date": (f"{ROWS}a,soon,1\n", CSV, 422, ["column timestamp", "row 2", "soon"]),
    "date of another land": (f"{ROWS}a,31.12.2024,1\n", CSV, 422, ["row 2", "ISO 8601"]),
    "day that does not exist": (
        f"{ROWS}a,2024-02-28,1\na,2024-02-30,1\n", CSV, 422, ["column timestamp", "row 3"],
    ),
    "empty stamp": (f"{ROWS}a,2024-01-01,1\na,,1\n", CSV, 422, ["column timestamp", "row 3"]),
    "zone on some": (
        f"{ROWS}a,2024-01-01T00:00Z,1\na,2024-01-02T00:00,1\n", CSV, 422, ["time zone"],
    ),
    "empty name": (f"{ROWS}a,2024-01-01,1\n,2024-02-01,1\n", CSV, 422, ["column item_id", "row 3"]),
    "long name": (f"{ROWS}{'a' * 300},2024-01-01,1\n", CSV, 422, ["item_id", "row 2", "256"]),
    "stamp twice": (
        f"{ROWS}a,2024-01-01,1\nb,2024-01-01,5\na,2024-01-01,2\n", CSV, 422,
        ["rows 2 and 4", "item a"],
    ),
    "one stamp": (f"{ROWS}a,2024-01-01,1\n", CSV, 422, ["freq"]),
    "off the grid": (
        f"{ROWS}a,2024-01-01,1\na,2024-02-01,1\na,2024-02-10,1\n", f"{CSV}#M", 422,
        ["column timestamp", "row 4"],
    ),
    "gap of ages": (
        f"{ROWS}a,0001-01-01T00:00:00,1\na,9999-01-01T00:00:01,1\n", f"{CSV}#s", 413,
        ["time stamps wrong"],
    ),
    "column twice": ("y,ds,y\n1,2024-01-01,2\n", CSV, 422, ["column y", "2 times"]),
    "column without a name": ("item_id,,target\na,2024-01-01,2\n", CSV, 422, ["row 1", "column 2"]),
    "no numbers": ("name,place\na,b\n", CSV, 422, ["name, place"]),
    "open quote": (f'{ROWS}"a,2024-01-01,1\n', CSV, 422, ["row 2"]),
    "too many columns": (",".join(f"x{n}" for n in range(1200)) + "\n", CSV, 413, ["1000 columns"]),
    "long first row": (f"{'a' * 140_000},b\n1,2\n", CSV, 400, ["row 1", "too long"]),
    "Parquet as CSV": (sound_parquet(), CSV, 400, ["Parquet"]),
    "JSON cut off": ('{"target": 1}\n{"target":', JSON_LINES, 422, ["row 2"]),
    "JSON of mixed types": ('{"target": 1}\n{"target": "x"}\n', JSON_LINES, 422, ["row 2"]),
    "JSON array": ("[1, 2]", JSON_LINES, 422, ["row 1"]),
    "JSON key twice": ('{"target": 1, "target": 2}', JSON_LINES, 422, ["row 1", "target"]),
    "JSON nested": ('{"target": [1]}', JSON_LINES, 422, ["number"]),
    "CSV as Parquet": (f"{ROWS}a,2024-01-01,1\n", PARQUET, 400, ["not Parquet"]),
    "Parquet cut off": (sound_parquet()[:-9], PARQUET, 400, ["not Parquet"]),
    "Parquet damaged": (
        sound_parquet()[:20] + b"\xff" * 60 + sound_parquet()[80:], PARQUET, 400, ["not Parquet"],
    ),
    "Parquet of lists": (parquet(item_id=["a"], target=[[1.0]]), PARQUET, 422, ["number"]),
    "Parquet with an empty name": (
        parquet(item_id=["a", None], timestamp=MONTHS[:2], target=[1, 2]),
        PARQUET, 422, ["column item_id", "row 2"],
    ),
    "Parquet of no year": (
        parquet(timestamp=pa.array([0, 2**53], pa.timestamp("ms")), target=[1, 2]),
        PARQUET, 422, ["column timestamp", "row 2", "years 1 to 9999"],
    ),
    "Parquet of bytes": (
        parquet(item_id=pa.array([b"\xff" * 16], pa.binary(16)), target=[1]),
        PARQUET, 422, ["column item_id"],
    ),
    "Parquet bomb": (bomb(), PARQUET, 413, ["decompressed"]),
    "CSV as Arrow": (f"{ROWS}a,2024-01-01,1\n", ARROW, 400, ["no Arrow stream"]),
    "Arrow cut off": (sound_arrow()[:-60], ARROW, 400, ["no Arrow stream"]),
    "Arrow compressed": (sound_arrow("zstd"), ARROW, 422, ["compressed"]),
    "Arrow file compressed": (sound_arrow("lz4", as_file=True), ARROW, 422, ["compressed"]),
    "Arrow dictionary compressed": (
        arrow("zstd", item_id=pa.array(["a"] * 9).dictionary_encode(), target=[1.0] * 9),
        ARROW, 422, ["compressed"],
    ),
    "Arrow of text": (arrow(target=["1", "many"]), ARROW, 422, ["column target, row 2: 'many'"]),
    "wrong kind": (ROWS, "application/pdf", 415, ["text/csv"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
async def test_broken_file_is_refused_with_its_place(client: AsyncClient, name: str) -> None:
    body, media_type, status, words = BROKEN[name]
    media_type, _, freq = media_type.partition("#")
    answer = await send(client, body, media_type, **({"freq": freq} if freq else {}))
    problem = answer.json()
    assert answer.status_code == status, problem
    assert answer.headers["content-type"] == "application/problem+json"
    for word in words:
        assert word in problem["detail"]


async def test_named_encoding_is_read(client: AsyncClient) -> None:
    body = f"{ROWS}Köln,2024-01-01,1\nKöln,2024-02-01,2\n".encode("cp1252")
    answer = await send(client, body, f"{CSV}; charset=windows-1252")
    assert answer.json()["series"][0]["item_id"] == "Köln"


async def test_roles_can_be_corrected(client: AsyncClient) -> None:
    body = "when,a,b\n2024-01-01,1,5\n2024-01-02,2,6\n"
    guessed = (await send(client, body)).json()
    told = (await send(client, body, target="a", item_id="")).json()
    assert guessed["columns"]["target"] == "b"
    assert told["columns"] == {"item_id": None, "timestamp": "when", "target": "a"}
    assert told["series"][0]["target"] == [1, 2]


async def test_column_that_is_not_there_is_named(client: AsyncClient) -> None:
    answer = await send(client, "a,b\n1,2\n", target="c")
    assert answer.status_code == 422
    assert "column c for target is not there; the columns are a, b" in answer.json()["detail"]


async def test_numbers_alone_are_one_series(client: AsyncClient) -> None:
    found = (await send(client, "1\nNaN\n3\n")).json()
    assert found["series"][0]["target"] == [1, None, 3]
    assert (found["freq"], found["series"][0]["timestamps"]) == (None, None)


async def test_compressed_file_is_read(client: AsyncClient) -> None:
    headers = {"Content-Type": CSV, "Content-Encoding": "gzip"}
    body = gzip.compress(b"1\n2\n")
    answer = await client.post("/v1/series", content=body, headers=headers)
    assert answer.json()["series"][0]["target"] == [1, 2]


async def test_gaps_and_missing_values_are_counted_apart(client: AsyncClient) -> None:
    body = f"{ROWS}a,2024-01-01,1\na,2024-02-01,\na,2024-04-01,4\n"
    series = (await send(client, body)).json()["series"][0]
    assert (series["num_gaps"], series["num_missing"]) == (1, 2)


HALF_SECONDS = ["2024-01-01T00:00:00.500000", "2024-01-01T01:00:00.500000"]


async def test_fractions_of_seconds_come_back(client: AsyncClient) -> None:
    body = ROWS + "".join(f"a,{stamp},1\n" for stamp in HALF_SECONDS)
    series = (await send(client, body)).json()["series"][0]
    assert (series["start"], series["timestamps"]) == (HALF_SECONDS[0], HALF_SECONDS)


async def test_items_without_a_number_are_left_out_and_named(client: AsyncClient) -> None:
    found = (await send(client, f"{ROWS}a,2024-01-01,1\na,2024-02-01,2\nb,2024-01-01,\n")).json()
    assert [one["item_id"] for one in found["series"]] == ["a"]
    assert found["without_values"] == ["b"]


async def test_series_of_an_answer_can_be_forecast(client: AsyncClient) -> None:
    found = (await send(client, f"{ROWS}a,2024-01-01,1\na,2024-02-01,2\n")).json()
    items = [{k: one[k] for k in ("item_id", "start", "target")} for one in found["series"]]
    answer = await client.post("/v1/models/monthly/forecast", json={"series": items})
    assert answer.json()["forecasts"][0]["timestamps"][0] == "2024-03-01"


async def test_one_text_in_many_rows_stays_small(client: AsyncClient) -> None:
    long_text = pa.array(["x" * 2**20]).dictionary_encode()
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 50_000), long_text.dictionary)
    answer = await send(client, parquet(item_id=column, target=[1.0] * 50_000), PARQUET)
    assert (answer.status_code, "256" in answer.json()["detail"]) == (422, True)


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
async def test_random_bytes_are_refused(client: AsyncClient, media_type: str) -> None:
    answer = await send(client, bytes(range(1, 256)) * 20, media_type)
    assert answer.status_code in {400, 422}


async def test_training_and_service_read_the_example_alike(client: AsyncClient) -> None:
    frame = pl.read_csv(EXAMPLE)
    found = (await send(client, frame.write_csv())).json()["series"][0]
    assert found["target"] == frame["target"].to_list()
    assert found["timestamps"] == frame["timestamp"].to_list()


@pytest.mark.parametrize("charset", ["base64", "rot13", "punycode", "unicode_escape", "undefined"])
async def test_codec_that_is_no_encoding_of_text_is_refused(
    client: AsyncClient, charset: str
) -> None:
    answer = await send(client, "a\\ud800\n1\n", f"{CSV}; charset={charset}")
    assert (answer.status_code, "charset" in answer.json()["detail"]) == (422, True)


async def test_covariates_come_where_they_are_asked_for(client: AsyncClient) -> None:
    body = "ds,y,promo,size,price\n2024-01-01,1,0,5,9\n2024-03-01,3,1,5,8\n2024-04-01,,1,5,\n"
    query = "past_covariates=price&future_covariates=promo&static_covariates=size"
    headers = {"Content-Type": CSV}
    answer = await client.post(f"/v1/series?{query}", content=body, headers=headers)
    (series,) = answer.json()["series"]
    assert series["past_covariates"] == {"price": [9, None, 8]}
    assert series["future_covariates"] == {"promo": [0, None, 1, 1]}
    assert series["static_covariates"] == {"size": 5}
    plain = (await send(client, body)).json()["series"][0]
    assert plain["past_covariates"] == plain["static_covariates"] == {}


NAMES = [f"x{index}" for index in range(100)]


@pytest.mark.parametrize(("num_covariates", "status"), [(99, 200), (100, 413)])
@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        (range(20_000), "the file may have at most"),
        ([0, 19_999], "with gaps filled there are"),
    ],
    ids=["rows", "gaps"],
)
@pytest.mark.parametrize("kind", ["past_covariates", "future_covariates"])
async def test_values_of_covariates_count(
    client: AsyncClient,
    kind: str,
    steps: list[int],
    sentence: str,
    num_covariates: int,
    status: int,
) -> None:
    values = dict.fromkeys(["target", *NAMES], pa.array([0.0] * len(steps)))
    body = parquet(timestamp=pa.array(steps), **values)
    headers, query = {"Content-Type": PARQUET}, {kind: NAMES[:num_covariates]}
    answer = await client.post("/v1/series", content=body, headers=headers, params=query)
    assert answer.status_code == status
    assert status == 200 or re.match(f"{sentence} .*2000000", answer.json()["detail"])


async def test_stamps_of_month_ends_are_those_of_the_rows(client: AsyncClient) -> None:
    body = ROWS + "a,2022-12-30,\na,2023-01-30,\na,2023-02-28,2\na,2023-03-30,3\n"
    answer = await client.post("/v1/series", content=body, headers={"Content-Type": CSV})
    (series,) = answer.json()["series"]
    assert series["timestamps"] == ["2023-01-30", "2023-02-28", "2023-03-30"]
    assert (series["start"], series["target"]) == ("2023-01-30", [None, 2, 3])
