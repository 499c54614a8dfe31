"""From a long-format file to sequences with their answers.

One row per item and step: a column that names the item, perhaps one that orders its steps, columns
of numbers that the model reads, and one or more columns that it has to find. Every complaint names
the column and the row.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from app.artifact.sequence_card import SequenceTask
from app.errors import InvalidInputError
from models.sequences.examples import IGNORED, Example, ExampleSet
from models.table import (
    blank_missing,
    read_file,
    read_names,
    read_numbers,
    read_texts,
    read_time,
    refuse,
)

MAX_CLASSES = 1000
MAX_STEPS = 20_000
_ITEM_NAMES, _TIME_NAMES = ("item_id", "unique_id"), ("timestamp", "ds")


@dataclass(frozen=True, kw_only=True, slots=True)
class SequenceOptions:
    """What a user says about a file.

    Attributes:
        task: What is to be learned.
        targets: Columns to find: one to classify or tag, one or more to regress.
        features: Columns of numbers to read, in order; None for all others that hold numbers.
        item: Column that names the sequence; ``item_id`` or ``unique_id`` if None.
        time: Column that orders its steps; ``timestamp`` or ``ds`` if None, and the order of the
            rows where there is neither.
        classes: Classes to know, in order; those in the file if empty.
    """

    task: SequenceTask
    targets: tuple[str, ...]
    features: tuple[str, ...] | None = None
    item: str | None = None
    time: str | None = None
    classes: tuple[str, ...] = ()

    def check(self) -> None:
        """Check what does not depend on the file.

        Raises:
            InvalidInputError: A column is named twice, or the task can not have these targets.
        """
        names = [*self.targets, *(self.features or ())]
        for name in names:
            if names.count(name) > 1:
                raise InvalidInputError(f"column {name} is named twice")
        if not self.targets:
            raise InvalidInputError("--target is needed: the column that the model has to find")
        if self.task != "regress" and len(self.targets) > 1:
            raise InvalidInputError(f"to {self.task} there is one --target, not several")


@dataclass(frozen=True, kw_only=True, slots=True)
class SequenceFindings:
    """What was found in a file, for the user to check.

    Attributes:
        num_rows: Rows of the file.
        item: Column that names the sequence.
        time: Column that orders its steps; None where the order of the rows does.
        ignored: Columns that are not used.
        num_missing: Numbers that are missing.
        num_untagged: Steps without a tag.
    """

    num_rows: int
    item: str
    time: str | None
    ignored: tuple[str, ...]
    num_missing: int
    num_untagged: int = 0


@dataclass(frozen=True, slots=True)
class _File:
    raw: pl.DataFrame
    first_row: int
    item: str
    time: str | None


def load_examples(path: Path, options: SequenceOptions) -> tuple[ExampleSet, SequenceFindings]:
    """Read the sequences of a CSV or Parquet file.

    Raises:
        InvalidInputError: The file is wrong, or does not say what is needed; the message names the
            column and the row where there is one.
    """
    options.check()
    file = _open(path, options)
    features = options.features
    if features is None:
        features = _find_numbers(file, options)
    frame, classes = _read_frame(file, features, options)
    examples = tuple(
        _to_example(item_id, part, features, options)
        for (item_id,), part in frame.partition_by("item_id", as_dict=True).items()
    )
    _check_lengths(examples)
    targets = options.targets if options.task == "regress" else ()
    used = {file.item, file.time, *features, *options.targets}
    untagged = sum(int((e.answer == IGNORED).sum()) for e in examples if options.task == "tag")
    findings = SequenceFindings(
        num_rows=frame.height,
        item=file.item,
        time=file.time,
        ignored=tuple(name for name in file.raw.columns if name not in used),
        num_missing=sum(int(np.isnan(example.values).sum()) for example in examples),
        num_untagged=untagged,
    )
    return ExampleSet(options.task, examples, features, classes, targets), findings


def _open(path: Path, options: SequenceOptions) -> _File:
    cells = read_file(path)
    raw = cells.frame
    if raw.is_empty():
        raise InvalidInputError(f"{path.name} has no rows")
    item = options.item or _first_of(_ITEM_NAMES, raw)
    if item is None:
        raise InvalidInputError(
            "no column is named item_id or unique_id; --item names the one that tells the "
            f"sequences apart, of {', '.join(raw.columns)}"
        )
    time = options.time or _first_of(_TIME_NAMES, raw)
    for name in (item, time, *options.targets, *(options.features or ())):
        if name is not None and name not in raw.columns:
            raise InvalidInputError(f"column {name} is not in {path.name}")
    for name in (*options.targets, *(options.features or ())):
        if name in {item, time}:
            raise InvalidInputError(f"column {name} names or orders the sequences")
    texts = {item, time, *(options.targets if options.task != "regress" else ())}
    numbers = [name for name in raw.columns if name not in texts]
    return _File(cells.with_decimal_points(numbers), cells.first_row, item, time)


def _first_of(names: tuple[str, ...], raw: pl.DataFrame) -> str | None:
    return next((name for name in names if name in raw.columns), None)


def _find_numbers(file: _File, options: SequenceOptions) -> tuple[str, ...]:
    """Return the columns that hold nothing but numbers, and at least one."""
    others = [n for n in file.raw.columns if n not in {file.item, file.time, *options.targets}]
    found = tuple(name for name in others if _holds_numbers(file.raw[name]))
    if not found:
        raise InvalidInputError(f"no column but --target holds numbers: {', '.join(others)}")
    return found


def _holds_numbers(column: pl.Series) -> bool:
    if column.dtype == pl.String:
        column = blank_missing(column)
        numbers = column.cast(pl.Float64, strict=False)
        return numbers.null_count() == column.null_count() < len(column)
    return column.dtype.is_numeric() or column.dtype == pl.Boolean


def _read_frame(
    file: _File, features: tuple[str, ...], options: SequenceOptions
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return ``row``, ``item_id``, features and targets, each item in order, and the classes."""
    raw, first_row = file.raw, file.first_row
    columns = [
        pl.Series("row", np.arange(first_row, first_row + raw.height)),
        read_names(raw[file.item], first_row).alias("item_id"),
        *(read_numbers(raw[name], first_row).alias(f"feature {name}") for name in features),
    ]
    classes: tuple[str, ...] = ()
    if options.task == "regress":
        for name in options.targets:
            numbers = read_numbers(raw[name], first_row)
            refuse(numbers.is_null(), raw[name], first_row, "is no number to learn")
            columns.append(numbers.alias(f"target {name}"))
    else:
        (name,) = options.targets
        codes, classes = _read_classes(raw[name], first_row, options)
        columns.append(codes.alias(f"target {name}"))
    if file.time is not None:
        columns.append(read_time(raw[file.time], first_row).alias("time"))
    frame = pl.DataFrame(columns)
    if file.time is not None:
        again = frame.select(pl.struct("item_id", "time").is_first_distinct()).to_series()
        refuse(~again, raw[file.time], first_row, "comes twice for its item")
        order = frame["item_id"].unique(maintain_order=True)
        ranks = {item_id: rank for rank, item_id in enumerate(order)}
        rank = frame["item_id"].replace_strict(ranks, return_dtype=pl.Int64).alias("rank")
        frame = frame.with_columns(rank).sort("rank", "time")
    return frame, classes


def _read_classes(
    column: pl.Series, first_row: int, options: SequenceOptions
) -> tuple[pl.Series, tuple[str, ...]]:
    names = read_texts(column)
    if options.task == "classify":
        refuse(names.is_null(), column, first_row, "is no class")
    classes = options.classes or _sort_classes(names.drop_nulls().unique().to_list())
    if not options.classes and not 1 < len(classes) <= MAX_CLASSES:
        raise InvalidInputError(
            f"column {column.name} holds {len(classes)} classes; 2 to {MAX_CLASSES} can be learned"
        )
    is_unknown = names.is_not_null() & ~names.is_in(list(classes))
    refuse(is_unknown, column, first_row, "is a class that the model does not know")
    codes = {name: code for code, name in enumerate(classes)}
    return names.replace_strict(codes, default=IGNORED, return_dtype=pl.Int64), classes


def _sort_classes(names: list[str]) -> tuple[str, ...]:
    """Sort by number where all are numbers, else by text."""
    try:
        return tuple(sorted(names, key=lambda name: (float(name), name)))
    except ValueError:
        return tuple(sorted(names))


def _to_example(
    item_id: str, part: pl.DataFrame, features: tuple[str, ...], options: SequenceOptions
) -> Example:
    values = part.select(f"feature {name}" for name in features).cast(pl.Float64).to_numpy()
    values = np.where(np.isnan(values), np.nan, values)
    if options.task == "tag":
        return Example(item_id, values, part[f"target {options.targets[0]}"].to_numpy())
    for name in options.targets:
        _check_constant(part, item_id, name)
    first = part.select(f"target {name}" for name in options.targets).row(0)
    answers = np.array(first, np.float64)
    if options.task == "regress":
        return Example(item_id, values, answers)
    return Example(item_id, values, answers[0].astype(np.int64).reshape(()))


def _check_constant(part: pl.DataFrame, item_id: str, name: str) -> None:
    column = part[f"target {name}"]
    differs = (column != column[0]).arg_true()
    if len(differs):
        first, row = part["row"][0], part["row"][differs[0]]
        raise InvalidInputError(
            f"column {name}, row {row}: differs from row {first} of the same item {item_id}; "
            "--task tag learns an answer for each row"
        )


def _check_lengths(examples: tuple[Example, ...]) -> None:
    for example in examples:
        if len(example.values) > MAX_STEPS:
            raise InvalidInputError(
                f"item {example.item_id} has {len(example.values)} rows; a sequence has at most "
                f"{MAX_STEPS}"
            )
