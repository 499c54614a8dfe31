"""What all dialects share: body in, the core's forecast, body out; and the model that is meant."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from app.artifact.card import Card
from app.calendar import Frequency
from app.errors import InvalidInputError, InvalidSeriesError, ModelNotFoundError
from app.gateway.body import cancel_when_caller_leaves, read_json_body
from app.gateway.catalog import Catalog, Forecaster
from app.gateway.exchange import exchange_of, owner_of
from app.gateway.forecast_schemas import ForecastRequest
from app.gateway.preparation import PreparedRequest
from app.gateway.service import Forecast, ForecastService
from app.settings import Settings

JSON = "application/json"
GZIP = ("gzip", "x-gzip")

Translate = Callable[[InvalidInputError], InvalidInputError]

_INLINE_BYTES = 2**18
_INLINE_VALUES = 2**16


@dataclass(frozen=True, slots=True)
class Question:
    """What the body of a request asks for, and how its answer is written."""

    model: Forecaster
    prepared: PreparedRequest
    encode: Callable[[Forecast], bytes]


class Adapter:
    """Answers requests of a dialect through the same core as the native API."""

    def __init__(self, service: ForecastService, catalog: Catalog, settings: Settings) -> None:
        self._service = service
        self._catalog = catalog
        self.settings = settings
        self._large_bodies = asyncio.Semaphore(1)

    async def answer(
        self,
        request: Request,
        understand: Callable[[bytes], Question],
        *,
        media_types: Sequence[str] = (JSON,),
        encodings: Sequence[str] = GZIP,
    ) -> Response:
        """Read a request, forecast what it asks for and write the answer.

        Args:
            request: Its route has set the form of errors already.
            understand: Turns the body into a question; computes only, off the loop where large.
            media_types: Content types that are taken; the answer has that of the request.
            encodings: Content encodings that are taken.
        """
        exchange = exchange_of(request.scope)
        body = await read_json_body(
            request.scope,
            request.receive,
            max_bytes=self.settings.max_body_bytes,
            timeout_s=self.settings.body_timeout_s,
            encodings=encodings,
            media_types=media_types,
        )
        question = await self._understand(body, understand)
        model = question.model
        exchange.name_model(model.model_name, model.model_version, model.digest)
        deadline = exchange.started + self.settings.request_timeout_s
        with cancel_when_caller_leaves(request.receive):
            forecast = await self._service.forecast(
                question.prepared,
                question.model,
                deadline=deadline,
                owner=owner_of(request.scope),
            )
            is_large = len(body) > _INLINE_BYTES
            content = await _encode(question, forecast, is_large=is_large)
        media_type = request.headers["content-type"].partition(";")[0].strip().lower()
        return Response(content, media_type=media_type)

    def find_model(self, model_name: str | None, freq: str | None) -> Forecaster:
        """Return the model that a request means.

        That is the one it names; else ``GATECAST_DEFAULT_MODEL``; else the only one that is served;
        else the only one of its frequency.

        Raises:
            ModelNotFoundError: There is none of that name, or several could be meant.
            ModelNotReadyError: It did not load, or no runner is up.
        """
        if name := model_name or self.settings.default_model:
            return self._catalog.find_able("forecast", name, self._catalog.draw(name))
        ready = [model for model in self._catalog.models() if isinstance(model.default.card, Card)]
        if len(ready) > 1 and freq is not None:
            ready = [
                model
                for model in ready
                if isinstance(model.default.card, Card) and _is_freq(model.default.card.freq, freq)
            ]
        if len(ready) == 1:
            name = ready[0].model_name
            return self._catalog.find_able("forecast", name, self._catalog.draw(name))
        self._catalog.check_any()
        raise ModelNotFoundError(
            "it is not clear which model is meant: set GATECAST_DEFAULT_MODEL, serve one model, or"
            " one model for each frequency"
        )

    def is_served(self, model_name: str) -> bool:
        """Whether there is a model of that name."""
        return any(model.model_name == model_name for model in self._catalog.models())

    def prepare(
        self, request: ForecastRequest, model: Forecaster, translate: Translate
    ) -> PreparedRequest:
        """Check and convert a request as the native API does; ``translate`` words errors.

        Raises:
            InvalidInputError: As ``ForecastService.prepare``.
        """
        try:
            return self._service.prepare(request, model)
        except InvalidInputError as error:
            raise translate(error) from error

    async def _understand(self, body: bytes, understand: Callable[[bytes], Question]) -> Question:
        if len(body) <= _INLINE_BYTES:
            return understand(body)
        async with self._large_bodies:  # as the native API does
            return await asyncio.to_thread(understand, body)


def refuse_wrong_series(prepared: PreparedRequest, translate: Translate) -> None:
    """Refuse a request with any wrong series, where the dialect has no error for a single one.

    Raises:
        InvalidSeriesError: There is one.
    """
    refusals = [translate(prepared.refusals[place]) for place in sorted(prepared.refusals)]
    if len(refusals) == 1:
        raise refusals[0]
    if refusals:
        raise InvalidSeriesError(f"{refusals[0]}; {len(refusals)} series are wrong", refusals)


def with_median(levels: Sequence[float]) -> list[float]:
    """Return ``levels`` ascending, each once, with 0.5: the mean of the dialects is the median."""
    return sorted({*levels, 0.5})


def check_series_count(count: int, settings: Settings, pointer: str) -> None:
    """Refuse more series than a request may have.

    Raises:
        InvalidInputError: There are more.
    """
    if count > settings.max_series:
        raise InvalidInputError(
            f"the request stands for {count} series; at most {settings.max_series} are allowed",
            pointer,
        )


def covariates_by_order(
    names: Sequence[str],
    columns: Sequence[list[float | None]],
    *,
    field: str,
    pointer: str,
) -> dict[str, list[float | None]]:
    """Name covariates that a dialect gives without names, in the order of the model's card.

    Raises:
        InvalidInputError: Their number is not the model's.
    """
    if len(columns) != len(names):
        wanted = f"hold {len(names)} lists: {', '.join(names)}" if names else "be left out"
        raise InvalidInputError(
            f"{field} must {wanted}, as the model was trained", f"{pointer}/{field}"
        )
    return dict(zip(names, columns, strict=True))


def _is_freq(trained: str | None, asked: str) -> bool:
    try:
        return trained is not None and Frequency.parse(trained) == Frequency.parse(asked)
    except InvalidInputError:
        return False


async def _encode(question: Question, forecast: Forecast, *, is_large: bool) -> bytes:
    num_values = len(forecast.item_ids) * len(forecast.quantile_levels) * forecast.horizon
    if is_large or num_values > _INLINE_VALUES:
        return await asyncio.to_thread(question.encode, forecast)
    return question.encode(forecast)
