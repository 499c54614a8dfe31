"""Rows on disk, divided by item, so that some items at a time can be put together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from app.arrow import pa
from app.files.rows import Rows, hash_names
from app.files.storing import storing

_MOST_PARTITIONS = 256
_ARRAYS = ("time", "target", "number")
_KEPT = "the rows of the file"


class Partitions:
    """Some files, each with all rows of its items; which items those are depends on names alone.

    Every call raises ``StorageError`` where the disk refuses.
    """

    def __init__(self, count: int, num_covariates: int) -> None:
        count = min(_MOST_PARTITIONS, count)
        self._num_covariates = num_covariates
        fields = [("item", pa.string()), ("time", pa.int64()), ("target", pa.float64())]
        fields += [("number", pa.int64()), ("complaint", pa.string())]
        fields += [(f"covariate {index}", pa.float64()) for index in range(num_covariates)]
        self._schema = pa.schema(fields)
        with storing(_KEPT):
            self._folder = TemporaryDirectory(prefix="gatecast-rows-")
        self._paths = [Path(self._folder.name) / str(index) for index in range(count)]
        self._writers = self._open()

    def _open(self) -> list[pa.RecordBatchFileWriter]:
        try:
            with storing(_KEPT):
                return [pa.ipc.new_file(str(path), self._schema) for path in self._paths]
        except BaseException:
            self.close()
            raise

    def add(self, rows: Rows) -> None:
        """Write some rows."""
        owners = (hash_names(rows.names) % np.uint64(len(self._paths)))[rows.item]
        order = np.argsort(owners, kind="stable")
        batch = self._to_batch(rows).take(pa.array(order))
        starts = np.searchsorted(owners[order], np.arange(len(self._paths) + 1))
        for writer, start, stop in zip(self._writers, starts[:-1], starts[1:], strict=True):
            if stop > start:
                with storing(_KEPT):
                    writer.write_batch(batch.slice(start, stop - start))

    def finish(self) -> None:
        """Write the ends."""
        with storing(_KEPT):
            for writer in self._writers:
                writer.close()

    def read(self) -> Iterator[Rows]:
        """Read the rows of some items at a time, in the order in which they were added."""
        for path in self._paths:
            table = _read(path)
            if table.num_rows:
                yield self._to_rows(table)

    def close(self) -> None:
        """Delete the files."""
        self._folder.cleanup()

    def _to_batch(self, rows: Rows) -> pa.RecordBatch:
        item = pa.DictionaryArray.from_arrays(pa.array(rows.item), rows.names)
        complaints = np.full(len(rows), None)
        complaints[list(rows.complaints)] = list(rows.complaints.values())
        arrays = [item.cast(pa.string()), *(pa.array(getattr(rows, name)) for name in _ARRAYS)]
        arrays.append(pa.array(complaints, pa.string()))
        arrays += [pa.array(rows.covariates[:, index]) for index in range(self._num_covariates)]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _to_rows(self, table: pa.Table) -> Rows:
        item = table["item"].combine_chunks().dictionary_encode()
        time, target, number = (table[name].to_numpy() for name in _ARRAYS)
        columns = [table[5 + index].to_numpy() for index in range(self._num_covariates)]
        complaints = table["complaint"]
        is_wrong = np.flatnonzero(complaints.is_valid().to_numpy())
        return Rows(
            item.dictionary,
            item.indices.to_numpy().astype(np.int64),
            time,
            target,
            np.column_stack(columns) if columns else np.empty((len(time), 0)),
            number,
            {row: str(complaints[row]) for row in is_wrong.tolist()},
        )


def _read(path: Path) -> pa.Table:
    with storing(_KEPT), pa.OSFile(str(path), "rb") as native, pa.ipc.open_file(native) as file:
        return file.read_all()
