"""Series of files larger than memory: read part by part into a store, and from there.

What comes out is what reading the file at once gives.
"""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from models.data import DataOptions, Reading, Understanding, load_series
from models.processes import ALONE, Processes
from models.series import SeriesSet
from models.store import open_store, read_summary, seal_store, write_store
from models.stream import ParquetStream

_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Store:
    """Where the series of a file that is streamed are kept, for all processes that train on them.

    The main process makes it, if it is not there already of the same file and options.
    """

    folder: Path
    processes: Processes = ALONE


def load_data(
    path: Path, options: DataOptions, store: Store | None
) -> tuple[SeriesSet, Understanding]:
    """Read the series of a CSV or Parquet file.

    Args:
        path: The file.
        options: What the user says about it.
        store: Where to keep the series of a Parquet file larger than memory, whose rows must lie
            together by item; None to hold all in memory.

    Raises:
        InvalidInputError: As ``load_series``, or the rows of an item do not lie together.
    """
    if store is None:
        return load_series(path, options)
    key = _describe(path, options)
    summary = read_summary(store.folder, key)
    if summary is None and store.processes.is_main:
        summary = _fill_store(path, options, store.folder)
        seal_store(store.folder, key, summary)
    while summary is None:  # for the main process, which may take long
        time.sleep(_POLL_S)
        summary = read_summary(store.folder, key)
    items = SeriesSet(open_store(store.folder), **_with_tuples(summary["items"]))
    return items, Understanding(**_with_tuples(summary["found"]))


def _describe(path: Path, options: DataOptions) -> dict[str, Any]:
    status = path.stat()
    return {
        "file": str(path.resolve()),
        "size": status.st_size,
        "modified": status.st_mtime_ns,
        "options": asdict(options),
    }


def _fill_store(path: Path, options: DataOptions, folder: Path) -> dict[str, Any]:
    stream = ParquetStream(path, options.covariates, options.static_categories)
    reading = Reading(stream, options)
    write_store(reading.list_series(), folder)
    items, found = reading.finish(path, open_store(folder) if reading.num_usable else ())
    about = asdict(replace(items, series=()))
    del about["series"]
    return {"items": about, "found": asdict(found)}


def _with_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """Undo what JSON does to tuples."""
    return {
        name: tuple(tuple(v) if isinstance(v, list) else v for v in value)
        if isinstance(value, list)
        else value
        for name, value in fields.items()
    }
