"""Client of gatecast: forecasts of series and of tables, classes of sequences; sync and async."""

from gatecast_client.answers import Forecast, SeriesError, SeriesForecast
from gatecast_client.client import AsyncClient, Client
from gatecast_client.errors import ClientError, ProblemError, SeriesRefusedError, UnreachableError
from gatecast_client.requests import Series
from gatecast_client.retries import RetryPolicy
from gatecast_client.tables import Columns
from gatecast_client.tasks import (
    InputSequence,
    Predictions,
    SequenceClass,
    SequenceTags,
    SequenceValues,
)

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "Columns",
    "Forecast",
    "InputSequence",
    "Predictions",
    "ProblemError",
    "RetryPolicy",
    "SequenceClass",
    "SequenceTags",
    "SequenceValues",
    "Series",
    "SeriesError",
    "SeriesForecast",
    "SeriesRefusedError",
    "UnreachableError",
]
