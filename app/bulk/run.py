"""A bulk run: a file of series in, a file of forecasts out, whatever happens in between.

How it is used::

    options = BulkOptions(output=folder / "forecasts.parquet", errors=folder / "errors.jsonl")
    run = BulkRun(source, options, folder / "work", forecaster)
    summary = await run.run(lambda progress: print(progress.done, progress.total))

``source`` is a file as ``app.bulk.source`` reads it, ``forecaster`` anything that runs batches of a
model: ``app.bulk.forecaster`` has the protocol, and sees tensors alone. ``folder`` holds the
journal. After a kill at any moment the same call goes on where the last one was, and the output has
the same bytes as that of a run that nothing disturbed, as long as the forecaster's numbers do not
depend on what else it runs. If the file, the model or an option has changed meanwhile, the run
begins anew, with a warning in the log that says what has changed. A run that is cancelled stops
within one batch and can be resumed as after a kill. Once ``run`` has returned, the output and the
errors are whole and ``folder`` may be removed; where no series could be forecast, ``num_rows`` is 0
and there is no output. A resumed run that finds all chunks done only writes
them again.

The order of things: rows and their mark in the journal are one transaction; the errors, then the
output, are written under other names, flushed to the disk and renamed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from app.arrow import pa
from app.bulk.chunks import ChunkForecaster, in_thread
from app.bulk.forecaster import BulkForecaster
from app.bulk.journal import Journal, Totals
from app.bulk.options import Aim, BulkOptions
from app.bulk.output import check_suffix, remove, write_forecasts, writing
from app.bulk.source import Chunk, Source, digest_of, open_source
from app.bulk.tables import table_schema

logger = logging.getLogger(__name__)

_NAMES = {
    "source": "the file",
    "model": "the model",
    "options": "what is asked for",
    "runtime": "what runs the model",
    "gatecast": "the version of gatecast",
}


@dataclass(frozen=True, slots=True)
class Progress:
    """Series that are done, the refused ones among them, of all in the file."""

    done: int
    total: int
    refused: int


@dataclass(frozen=True, slots=True)
class BulkSummary:
    """What a run has done.

    Attributes:
        num_series: In the file.
        num_refused: Series that could not be forecast; the errors file says why.
        num_rows: Rows of the output, one per series and step.
        num_resumed: Series that an earlier, interrupted run had done.
    """

    num_series: int
    num_refused: int
    num_rows: int
    num_resumed: int


class BulkRun:
    """Forecasts every series of a file; see the module's docstring.

    Args:
        source: CSV, JSON Lines or Parquet, in long format.
        options: What is asked for.
        folder: Where the journal is kept; made if it is not there.
        forecaster: Makes the numbers.
    """

    def __init__(
        self, source: Path, options: BulkOptions, folder: Path, forecaster: BulkForecaster
    ) -> None:
        self._source = source
        self._options = options
        self._folder = folder
        self._forecaster = forecaster

    async def run(self, on_progress: Callable[[Progress], None] = lambda _: None) -> BulkSummary:
        """Do what is not done yet.

        Args:
            on_progress: Called in the event loop: first with what an earlier run had done, then
                after every chunk.

        Raises:
            InvalidInputError: The file can not be read as series, or does not fit the model.
            BulkRunError: Another process is at this run, or a file can not be written.
            GatecastError: As ``BulkForecaster.infer``; the run can be resumed.
        """
        check_suffix(self._options.output)
        aim = Aim.of(self._options, self._forecaster.model.card)
        fingerprint = await in_thread(self._fingerprint)
        with await in_thread(Journal, self._folder, fingerprint) as journal:
            if journal.changed:
                changed = " and ".join(_NAMES[key] for key in journal.changed if key in _NAMES)
                logger.warning("%s changed since this run was interrupted: beginning anew", changed)
            return await _Attempt(
                self._source, self._options, self._forecaster, aim, journal
            ).finish(on_progress)

    def _fingerprint(self) -> dict[str, object]:
        """Return all that the rows follow from."""
        model = self._forecaster.model
        limits = self._forecaster.limits
        return {
            "source": digest_of(self._source),
            "model": [model.model_name, model.model_version, model.digest],
            "options": self._options.to_json(),
            "runtime": [
                model.runtime,
                limits.max_batch_size,
                limits.max_batch_steps,
                limits.max_padding_share,
            ],
            "gatecast": version("gatecast"),
        }


class _Attempt:
    """One attempt at a run, with its journal open."""

    def __init__(
        self,
        source: Path,
        options: BulkOptions,
        forecaster: BulkForecaster,
        aim: Aim,
        journal: Journal,
    ) -> None:
        self._path = source
        self._options = options
        self._forecaster = forecaster
        self._aim = aim
        self._journal = journal
        self._slots = asyncio.Semaphore(forecaster.concurrency)

    async def finish(self, on_progress: Callable[[Progress], None]) -> BulkSummary:
        """Forecast the chunks that are missing, then write the files."""
        before = self._journal.totals()
        opening = open_source(self._path, self._options, self._aim.card)
        try:
            source = await in_thread(opening.__enter__)
            self._aim.check_frequency(source.freq)
            num_series, has_stamps = source.num_series, source.freq is not None
            reporter = _Reporter(num_series, before, on_progress)
            await self._forecast(source, reporter)
        finally:
            await in_thread(opening.__exit__, None, None, None)
        totals = self._journal.totals()
        await in_thread(self._write, totals, has_stamps=has_stamps)
        return BulkSummary(num_series, totals.num_refused, totals.num_rows, before.num_series)

    async def _forecast(self, source: Source, reporter: _Reporter) -> None:
        has_stamps = source.freq is not None
        chunks = ChunkForecaster(self._forecaster, self._aim, has_stamps=has_stamps)
        done = self._journal.numbers()
        number = 0
        try:
            async with asyncio.TaskGroup() as group:
                while chunk := await in_thread(source.take, self._options.chunk_size):
                    if number not in done:
                        await self._slots.acquire()
                        group.create_task(self._forecast_chunk(chunks, number, chunk, reporter))
                    number += 1
        except ExceptionGroup as failures:
            first = failures.exceptions[0]
            raise first from first.__cause__

    async def _forecast_chunk(
        self, chunks: ChunkForecaster, number: int, chunk: Chunk, reporter: _Reporter
    ) -> None:
        try:
            finished = await chunks.forecast(number, chunk)
            await in_thread(self._journal.record, finished)
            reporter.add(finished.num_series, finished.num_refused)
        finally:
            self._slots.release()

    def _write(self, totals: Totals, *, has_stamps: bool) -> None:
        errors = self._options.errors
        if totals.num_refused:
            with writing(errors) as file:
                for lines in self._journal.refusals():
                    file.write(lines)
        else:
            remove(errors)  # of an earlier run
        if not totals.num_rows:
            return
        write_forecasts(
            self._options.output,
            self._journal.rows(),
            self._schema(has_stamps=has_stamps),
            horizon=self._aim.horizon,
            has_times=totals.has_times,
        )

    def _schema(self, *, has_stamps: bool) -> pa.Schema:
        return table_schema(self._aim.selection.levels, has_stamps=has_stamps)


class _Reporter:
    """Counts the series that are done."""

    def __init__(self, total: int, before: Totals, report: Callable[[Progress], None]) -> None:
        self._done, self._refused = before.num_series, before.num_refused
        self._total = total
        self._report = report
        report(Progress(self._done, total, self._refused))

    def add(self, num_series: int, num_refused: int) -> None:
        """Count a chunk."""
        self._done += num_series
        self._refused += num_refused
        self._report(Progress(self._done, self._total, self._refused))
