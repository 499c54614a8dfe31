"""Tables for the terminal: what was understood of a file, and how good the answers are."""

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from models.sequences.data import SequenceFindings
from models.sequences.examples import ExampleSet
from models.sequences.scores import Measure, class_shares

_NAMED = 10


def describe_examples(items: ExampleSet, found: SequenceFindings) -> Table:
    """Tabulate what was understood of a file."""
    lengths = sorted(items.lengths)
    order = f"by {found.time}" if found.time else "as the rows of the file"
    rows = [
        ("rows", f"{found.num_rows:,}"),
        ("sequences", f"{len(items.examples):,}, told apart by {found.item}"),
        ("order of steps", order),
        ("length", f"{lengths[0]} to {lengths[-1]}, median {int(np.median(lengths))}"),
        ("features", f"{len(items.features)}: {_name_some(items.features)}"),
        ("missing numbers", f"{found.num_missing:,}"),
        ("to find", _describe_answers(items)),
        ("columns ignored", ", ".join(found.ignored) or "none"),
    ]
    if items.task == "tag":
        rows.insert(-1, ("steps without a tag", f"{found.num_untagged:,}"))
    table = Table(title="data", show_header=False, title_justify="left")
    for row in rows:
        table.add_row(*row)
    return table


def describe_measures(measures: Sequence[Measure], title: str, baseline: str) -> Table:
    """Tabulate figures of a model beside those of the baseline."""
    table = Table("", title=title, title_justify="left")
    for name in ("model", baseline):
        table.add_column(name, justify="right")
    for one in measures:
        table.add_row(one.name, f"{one.value:.4g}", _format(one.baseline))
    return table


def _format(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _describe_answers(items: ExampleSet) -> str:
    if items.task == "regress":
        return ", ".join(items.targets)
    shares = zip(items.classes, class_shares(items), strict=True)
    return f"{len(items.classes)} classes: " + _name_some([f"{n} {s:.1%}" for n, s in shares])


def _name_some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
