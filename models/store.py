"""Series that lie in files and are read where they are needed, for sets larger than memory.

A folder holds one file of float64 for the targets and one for each kind of covariate, series after
series; ``index.arrow`` tells where each series lies; ``store.json``, written last, what it all was
made of. What is read is mapped into memory, not copied; now and then the pages that were read are
given back to the system, which keeps them or not.
"""

import datetime as dt
import json
import mmap
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
import pyarrow as pa
from typing_extensions import override

from models.series import FloatArray, Series, no_covariates

_TARGET, _PAST, _FUTURE = "target.f8", "past.f8", "future.f8"
_INDEX, _SUMMARY = "index.arrow", "store.json"
_KEPT_BYTES = 64 * 2**20
_VALUE_BYTES = 8
_BLOCK = 50_000
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - stamps of series are wall time
_MICROSECOND = dt.timedelta(microseconds=1)


class SeriesView(Sequence[Series]):
    """Series that are made when they are asked for, by ``get``."""

    def __init__(self, count: int, get: Callable[[int], Series]) -> None:
        self._count = count
        self._get = get

    @override
    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Series: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Series]: ...

    @override
    def __getitem__(self, index: int | slice) -> Series | Sequence[Series]:
        rows = range(self._count)[index]
        return self._get(rows) if isinstance(rows, int) else [self._get(row) for row in rows]

    def map(self, change: Callable[[Series], Series]) -> "SeriesView":
        """Return a view of the series as ``change`` makes them."""
        return SeriesView(self._count, lambda row: change(self._get(row)))


class _Column:
    """Rows of float64 in a file."""

    def __init__(self, path: Path, width: int) -> None:
        self._width = width
        self._num_read = 0
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def read(self, first: int, count: int) -> FloatArray:
        """Return rows as ``(count, width)``, read-only."""
        self._num_read += count * self._width * _VALUE_BYTES
        if self._num_read > _KEPT_BYTES:
            self._num_read = 0
            self._map.madvise(mmap.MADV_DONTNEED)
        offset = first * self._width * _VALUE_BYTES
        values = np.frombuffer(self._map, "<f8", count * self._width, offset)
        return values.reshape(count, self._width)


def write_store(series: Iterable[Series], folder: Path) -> None:
    """Write ``series`` into ``folder``, which is made anew; they are gone through once."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = {name: (folder / name).open("wb") for name in (_TARGET, _PAST, _FUTURE)}
    try:
        with pa.OSFile(str(folder / _INDEX), "wb") as sink:
            _write(iter(series), files, sink)
    finally:
        for file in files.values():
            file.close()


def _write(series: Iterable[Series], files: Mapping[str, BinaryIO], sink: Any) -> None:
    writer, rows = None, []
    for item in series:
        for name, values in _values_of(item).items():
            files[name].write(np.ascontiguousarray(values, "<f8").tobytes())
        rows.append(_describe(item))
        if len(rows) == _BLOCK:
            writer = _write_index(writer, rows, sink)
            rows = []
    if rows:
        writer = _write_index(writer, rows, sink)
    if writer is not None:
        writer.close()


def _values_of(item: Series) -> dict[str, FloatArray]:
    return {_TARGET: item.target, _PAST: item.past_covariates, _FUTURE: item.future_covariates}


def _describe(item: Series) -> dict[str, Any]:
    is_step = isinstance(item.start, int)
    start = item.start if isinstance(item.start, int) else (item.start - _EPOCH) // _MICROSECOND
    return {
        "item_id": item.item_id,
        "start": start,
        "is_step": is_step,
        "steps": len(item.target),
        "future_steps": len(item.future_covariates),
        "num_past": item.past_covariates.shape[1],
        "num_future": item.future_covariates.shape[1],
        "static": item.static_covariates.tolist(),
    }


_SCHEMA = pa.schema(
    [
        ("item_id", pa.large_string()),
        ("start", pa.int64()),
        ("is_step", pa.bool_()),
        ("steps", pa.int64()),
        ("future_steps", pa.int64()),
        ("num_past", pa.int64()),
        ("num_future", pa.int64()),
        ("static", pa.list_(pa.float64())),
    ]
)


def _write_index(writer: Any, rows: list[dict[str, Any]], sink: Any) -> Any:
    writer = writer or pa.ipc.new_file(sink, _SCHEMA)
    writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
    return writer


def open_store(folder: Path) -> SeriesView:
    """Return a view of the series in ``folder``."""
    with pa.memory_map(str(folder / _INDEX)) as source:
        index = pa.ipc.open_file(source).read_all().combine_chunks()
    return _Store(folder, index).view()


class _Store:
    """The files of a folder, and where each series lies in them."""

    def __init__(self, folder: Path, index: pa.Table) -> None:
        self._names = index["item_id"].chunk(0)
        self._is_step = bool(index["is_step"][0].as_py())
        self._starts = index["start"].to_numpy()
        self._steps = index["steps"].to_numpy()
        self._ends = self._steps.cumsum()
        self._future_steps = index["future_steps"].to_numpy()
        self._future_ends = self._future_steps.cumsum()
        self._static = index["static"].chunk(0).flatten().to_numpy().reshape(len(self._steps), -1)
        self._target = _Column(folder / _TARGET, 1)
        self._past = _open_column(folder / _PAST, index["num_past"][0].as_py())
        self._future = _open_column(folder / _FUTURE, index["num_future"][0].as_py())

    def view(self) -> SeriesView:
        """Return all series."""
        return SeriesView(len(self._steps), self.read)

    def read(self, row: int) -> Series:
        """Return one series, its values still in the file."""
        steps, future_steps = int(self._steps[row]), int(self._future_steps[row])
        first = int(self._ends[row]) - steps
        first_future = int(self._future_ends[row]) - future_steps
        past, future = self._past, self._future
        start = int(self._starts[row])
        return Series(
            item_id=self._names[row].as_py(),
            target=self._target.read(first, steps)[:, 0],
            start=start if self._is_step else _EPOCH + start * _MICROSECOND,
            past_covariates=past.read(first, steps) if past else no_covariates(),
            future_covariates=future.read(first_future, future_steps)
            if future
            else no_covariates(),
            static_covariates=self._static[row],
        )


def _open_column(path: Path, width: int) -> _Column | None:
    return _Column(path, width) if width else None


def seal_store(folder: Path, key: dict[str, Any], summary: dict[str, Any]) -> None:
    """Write what a store was made of; from then on it is complete."""
    partial = folder / f"{_SUMMARY}.partial"
    partial.write_text(json.dumps({"key": key, "summary": summary}))
    partial.replace(folder / _SUMMARY)


def read_summary(folder: Path, key: dict[str, Any]) -> dict[str, Any] | None:
    """Return the summary of the store in ``folder``; None if it is not one made of ``key``."""
    try:
        sealed = json.loads((folder / _SUMMARY).read_text())
    except FileNotFoundError:
        return None
    summary: dict[str, Any] = sealed["summary"]
    return summary if sealed["key"] == json.loads(json.dumps(key)) else None
