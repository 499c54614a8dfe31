"""Streams: a history that the service keeps, to which a caller adds values.

What is kept is the tail of the values, not a state: each forecast is one of the values kept, so
that it can be checked by sending them, and a model that is replaced simply reads them anew. Runners
keep the state behind the tail (``app.runner.histories``), which makes one more value cheap. For
that the tail must begin with the same value from one request to the next: where it outgrows the
model's context it loses an eighth of it at once.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from app.artifact.card import Card
from app.calendar import Frequency, format_stamps, parse_stamp
from app.errors import InvalidInputError, StreamConflictError
from app.gateway.catalog import Forecaster
from app.gateway.decoding import OUT_OF_RANGE
from app.gateway.forecast_schemas import ForecastRequest, Series
from app.gateway.preparation import PreparedRequest
from app.gateway.service import Forecast, ForecastService
from app.gateway.stream_covariates import StreamCovariates
from app.gateway.stream_schemas import Observations, StreamHistory
from app.gateway.stream_store import Stream, StreamKey, StreamStore
from app.tensors import LARGEST_MAGNITUDE

_DROPPED_SHARE = 8
_SERIES = "/series/0"


@dataclass(frozen=True, slots=True)
class Wish:
    """How a stream is to be forecast.

    Attributes:
        horizon: None for the model's.
        quantile_levels: None for the model's.
        deadline: Time of ``time.monotonic()`` by which the answer is needed.
        owner: Id of the caller's key, where states may be kept for it; None where not.
    """

    deadline: float
    horizon: float | None = None
    quantile_levels: list[float] | None = None
    owner: str | None = None


class Streams:
    """Makes, moves on and forecasts streams.

    Args:
        service: Makes the forecasts.
        store: Keeps the streams.
    """

    def __init__(self, service: ForecastService, store: StreamStore) -> None:
        self._service = service
        self._store = store

    async def create(self, key: StreamKey, history: StreamHistory, model: Forecaster) -> bool:
        """Begin a stream, in place of one of the same name; return whether there was none.

        Raises:
            InvalidInputError: The history is wrong, or its covariates are not those of the model.
            StreamLimitError: The caller has as many streams as it may have.
        """
        target = _to_array(history.target, "/target")
        covariates = StreamCovariates(
            history.past_covariates or {},
            history.future_covariates or {},
            history.static_covariates or {},
        )
        stream = Stream(len(target), target, history.start, history.freq, covariates)
        self._check_covariates(stream, model, Wish(0.0))
        stream = _cut(stream, model.card)
        self._prepare(stream, model, Wish(0.0), pointer="/target")
        return await self._store.put(key, stream)

    async def append(
        self, key: StreamKey, observations: Observations, model: Forecaster, wish: Wish
    ) -> bytes:
        """Add values, and return the forecast after them; the same request again changes nothing.

        Nothing is added where the forecast fails.

        Raises:
            StreamConflictError: The values leave a gap, or differ from what was added before.
            StreamNotFoundError, StreamLostError: There is no such stream.
            GatecastError: As ``ForecastService.forecast``.
        """
        values = _to_array(observations.values, "/values")
        digest = hashlib.sha256(msgspec.json.encode(observations)).digest()
        stream = await self.read(key)
        if observations.step != stream.step:
            return await self._repeat(key, stream, int(observations.step), digest)
        after = _cut(self._extend(stream, values, observations, model, wish), model.card)
        answer = await self._forecast(key, after, model, wish, pointer="/values")
        try:
            await self._store.append(key, stream, after, digest=digest, answer=answer)
        except StreamConflictError:
            return await self._repeat(key, await self.read(key), stream.step, digest)
        return answer

    async def forecast(self, key: StreamKey, model: Forecaster, wish: Wish) -> bytes:
        """Forecast a stream as it is.

        Raises:
            StreamNotFoundError, StreamLostError: There is no such stream.
            GatecastError: As ``ForecastService.forecast``.
        """
        stream = await self.read(key)
        _check_same_covariates(stream, model.card)
        return await self._forecast(key, _within(stream, model.card, wish), model, wish, pointer="")

    async def read(self, key: StreamKey) -> Stream:
        """Return a stream, as ``StreamStore.get``."""
        return await self._store.get(key)

    async def read_page(
        self, owner: str, model_name: str, *, after: str, limit: int
    ) -> list[tuple[str, Stream]]:
        """Return streams by id, as ``StreamStore.read_page``."""
        return await self._store.read_page(owner, model_name, after=after, limit=limit)

    async def delete(self, key: StreamKey) -> None:
        """Forget a stream, as ``StreamStore.delete``."""
        await self._store.delete(key)

    def _extend(
        self,
        stream: Stream,
        values: NDArray[np.float32],
        observations: Observations,
        model: Forecaster,
        wish: Wish,
    ) -> Stream:
        known = stream.covariates
        given = StreamCovariates(
            observations.past_covariates or {}, observations.future_covariates or {}, known.static
        )
        _check_same_covariates(stream, model.card)
        self._check_covariates(replace(stream, tail=values, covariates=given), model, wish)
        return replace(
            stream,
            step=stream.step + len(values),
            tail=np.concatenate([stream.tail, values]),
            covariates=known.join(given, len(stream.tail)),
        )

    def _check_covariates(self, stream: Stream, model: Forecaster, wish: Wish) -> None:
        """Check covariates as they were given, so that a complaint says where; the values aside."""
        if stream.covariates == StreamCovariates() and stream.covariates.fits(model.card):
            return
        whole = replace(stream, step=len(stream.tail), tail=np.zeros_like(stream.tail))
        self._prepare(whole, model, wish, pointer="")

    async def _repeat(self, key: StreamKey, stream: Stream, step: int, digest: bytes) -> bytes:
        """Return what was answered to the same request before."""
        if step > stream.step:
            raise StreamConflictError(
                f"step {step} leaves a gap: the stream has {stream.step} values, which is the next"
                " step"
            )
        found = await self._store.find_answer(key, step)
        if found is None or found[0] != digest:
            raise StreamConflictError(
                f"other values were given at step {step}, or too long ago to repeat the answer; the"
                f" next step is {stream.step}"
            )
        return found[1]

    async def _forecast(
        self, key: StreamKey, stream: Stream, model: Forecaster, wish: Wish, *, pointer: str
    ) -> bytes:
        prepared = self._prepare(stream, model, wish, pointer=pointer)
        forecast = await self._service.forecast(
            prepared, model, deadline=wish.deadline, owner=wish.owner
        )
        return _encode(key, stream, forecast)

    def _prepare(
        self, stream: Stream, model: Forecaster, wish: Wish, *, pointer: str
    ) -> PreparedRequest:
        covariates = stream.covariates
        series = Series(
            target=_to_list(stream.tail),
            start=_start_of_tail(stream, model.card),
            past_covariates=dict(covariates.past),
            future_covariates=dict(covariates.future),
            static_covariates=dict(covariates.static),
        )
        request = ForecastRequest(
            series=[series],
            freq=stream.freq,
            horizon=wish.horizon,
            quantile_levels=wish.quantile_levels,
        )
        try:
            return self._service.prepare(request, model)
        except InvalidInputError as error:
            place = error.pointer.replace(f"{_SERIES}/target", pointer).removeprefix(_SERIES)
            raise InvalidInputError(str(error), place) from error


def _cut(stream: Stream, card: Card) -> Stream:
    """Keep the newest values within the context, without an eighth of it each time it is full."""
    excess = len(stream.tail) - card.context_length
    if excess <= 0:
        return stream
    block = max(1, card.context_length // _DROPPED_SHARE)
    count = -(-excess // block) * block
    return replace(stream, tail=stream.tail[count:], covariates=stream.covariates.drop(count))


def _to_array(values: list[float | None], pointer: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        array = np.array(values, np.float32)
    too_large = np.abs(array) > LARGEST_MAGNITUDE
    if too_large.any():
        raise InvalidInputError(OUT_OF_RANGE, f"{pointer}/{int(too_large.argmax())}")
    return array


def _to_list(tail: NDArray[np.float32]) -> list[float | None]:
    return [None if value != value else value for value in tail.tolist()]  # noqa: PLR0124 - NaN


def _start_of_tail(stream: Stream, card: Card) -> str | None:
    if stream.start is None or not stream.num_dropped:
        return stream.start
    freq = _frequency(stream, card)
    if freq is None:
        return stream.start  # the service refuses a start without a frequency
    first = freq.shift(parse_stamp(stream.start), stream.num_dropped)
    return format_stamps([first], stream.start)[0]


def _frequency(stream: Stream, card: Card) -> Frequency | None:
    alias = stream.freq or card.freq
    return None if alias is None else Frequency.parse(alias)


def _check_same_covariates(stream: Stream, card: Card) -> None:
    if not stream.covariates.fits(card):
        raise InvalidInputError(
            "the stream has other covariates than this model takes; PUT it with its history"
        )


def _within(stream: Stream, card: Card, wish: Wish) -> Stream:
    """Leave out what is known beyond the steps that are asked for and those of the model."""
    num_kept = len(stream.tail)
    ahead = stream.covariates.num_ahead(num_kept)
    if ahead is None:
        return stream
    horizon = int(wish.horizon or card.horizon)
    if ahead < horizon:
        raise InvalidInputError(
            f"the covariates of the stream are known for {ahead} steps ahead: ask for no more, or"
            " give more with the next values",
            "/horizon",
        )
    most = max(horizon, card.horizon)
    stop = num_kept + (most if ahead >= most else horizon)
    return replace(stream, covariates=stream.covariates.until(stop))


def _encode(key: StreamKey, stream: Stream, forecast: Forecast) -> bytes:
    card, one = forecast.model.card, forecast.series[0]
    names = [repr(level) for level in forecast.quantile_levels]
    content: dict[str, Any] = {
        "stream_id": key.stream_id,
        "model_name": forecast.model.model_name,
        "model_version": forecast.model.model_version,
        "step": stream.step,
        "horizon": forecast.horizon,
        "quantile_levels": forecast.quantile_levels,
        "quantiles": dict(zip(names, one.quantiles, strict=True)),
    }
    if one.notes:
        content["notes"] = one.notes
    freq = _frequency(stream, card)
    if stream.start is not None and freq is not None:
        # Counted from the very first stamp, which alone says whether months end on their last day.
        stamps = freq.stamps(parse_stamp(stream.start), stream.step, forecast.horizon)
        content["timestamps"] = format_stamps(stamps, stream.start)
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
