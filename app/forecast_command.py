"""``gatecast forecast``: a file of series in, a file of forecasts out."""

import asyncio
import shutil
import sys
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from app.bulk.forecaster import BulkForecaster
from app.bulk.local import open_local
from app.bulk.options import BulkOptions
from app.bulk.output import check_suffix
from app.bulk.remote import REQUESTS_IN_FLIGHT, open_remote
from app.bulk.run import BulkRun, BulkSummary, Progress
from app.errors import BulkRunError, InvalidInputError
from app.files.columns import ColumnRoles

_INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """Where the model runs."""

    model: str
    model_version: int | None
    repository: Path
    device: Literal["auto", "cpu", "cuda"]
    url: str | None
    api_key: str
    workers: int | None

    def open(self) -> AbstractAsyncContextManager[BulkForecaster]:
        """Make the model ready."""
        if self.url is None:
            return open_local(
                self.repository,
                self.model,
                self.model_version,
                workers=self.workers,
                device=self.device,
            )
        return open_remote(
            self.url,
            self.model,
            self.model_version,
            api_key=self.api_key,
            in_flight=self.workers,
        )


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--model", required=True, help="Name of the model.")
@click.option("--model-version", type=click.IntRange(1), help="Its version [the newest].")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="File of the forecasts; its suffix says which format: .parquet, .csv, .jsonl, .arrow.",
)
@click.option(
    "--errors",
    type=click.Path(path_type=Path),
    help="File of the series that can not be forecast [OUTPUT's name with .errors.jsonl].",
)
@click.option("--horizon", type=click.IntRange(1), help="Steps ahead [the model's].")
@click.option("--quantile-levels", help="Levels, such as 0.1,0.5,0.9 [the model's].")
@click.option("--freq", help="Spacing of the stamps [inferred].")
@click.option("--item-id", help="Column that names the series; empty: there is none [guessed].")
@click.option("--timestamp", help="Column of stamps; empty: there is none [guessed].")
@click.option("--target", help="Column of the numbers [guessed].")
@click.option(
    "--repository",
    type=click.Path(path_type=Path),
    envvar="GATECAST_MODEL_REPOSITORY",
    default=Path("model_repository"),
    help="Folder of models [GATECAST_MODEL_REPOSITORY; model_repository].",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    help="Where the model runs [auto].",
)
@click.option("--url", help="Address of a running service that is to run the model instead.")
@click.option(
    "--api-key", envvar="GATECAST_API_KEY", default="", help="For --url [GATECAST_API_KEY]."
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    help=f"Processes [one per core]; with --url, requests in flight [{REQUESTS_IN_FLIGHT}].",
)
@click.option("--quiet", is_flag=True, help="Show no progress and no summary.")
def forecast(data: Path, *, quiet: bool, **given: Any) -> None:
    """Forecast every series of DATA, a CSV, JSON Lines or Parquet file in long format.

    After an interruption the same command goes on where it was.
    """
    place = _Place(**{name: given[name] for name in _Place.__slots__})
    options = _options(given)
    if data.resolve() in {options.output.resolve(), options.errors.resolve()}:
        raise InvalidInputError(
            "the output would take the place of the data: give another --output"
        )
    folder = options.output.with_name(f"{options.output.name}.partial")
    try:
        summary, seconds = asyncio.run(_run(data, options, folder, place, quiet=quiet))
    except KeyboardInterrupt:
        click.echo("gatecast: stopped; the same command goes on from here", err=True)
        sys.exit(_INTERRUPTED)
    shutil.rmtree(folder, ignore_errors=True)  # what stays does no harm
    if not summary.num_rows:
        raise BulkRunError(
            f"none of the {summary.num_series} series can be forecast: {options.errors} says why"
        )
    if not quiet:
        click.echo(_describe(summary, seconds, options), err=True)


def _options(given: dict[str, Any]) -> BulkOptions:
    output: Path = given["output"]
    check_suffix(output)
    return BulkOptions(
        output=output,
        errors=given["errors"] or output.with_suffix(".errors.jsonl"),
        roles=ColumnRoles(
            item_id=given["item_id"], timestamp=given["timestamp"], target=given["target"]
        ),
        freq=given["freq"],
        horizon=given["horizon"],
        quantile_levels=_levels(given["quantile_levels"]),
    )


def _levels(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(level) for level in text.split(","))
    except ValueError as error:
        raise InvalidInputError("--quantile-levels must be numbers between commas") from error


async def _run(
    data: Path, options: BulkOptions, folder: Path, place: _Place, *, quiet: bool
) -> tuple[BulkSummary, float]:
    async with place.open() as forecaster:
        started = time.monotonic()
        with _Bar(quiet=quiet) as bar:
            summary = await BulkRun(data, options, folder, forecaster).run(bar.show)
    return summary, time.monotonic() - started


class _Bar:
    """The progress bar, drawn once the number of series is known."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._done = 0

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.render_finish()

    def show(self, progress: Progress) -> None:
        """Draw what has been done."""
        if self._quiet:
            return
        if self._bar is None:
            if progress.done:
                click.echo(f"going on after {progress.done:,} series", err=True)
            self._bar = click.progressbar(
                length=progress.total, label="forecasting", file=sys.stderr, show_pos=True
            )
        self._bar.update(progress.done - self._done)
        self._done = progress.done


def _describe(summary: BulkSummary, seconds: float, options: BulkOptions) -> str:
    num_forecast = summary.num_series - summary.num_refused
    refused = f", {summary.num_refused:,} refused ({options.errors})" if summary.num_refused else ""
    num_new = summary.num_series - summary.num_resumed
    rows = f"{summary.num_rows:,} rows in {options.output}"
    speed = f"{seconds:.1f} s, {num_new / seconds:,.0f} series/s"
    return f"{num_forecast:,} series forecast{refused}; {rows}; {speed}"
