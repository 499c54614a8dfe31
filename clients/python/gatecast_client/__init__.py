"""Client of gatecast: forecasts of series and of tables, sync and async."""

from gatecast_client.answers import Forecast, SeriesError, SeriesForecast
from gatecast_client.client import AsyncClient, Client
from gatecast_client.errors import ClientError, ProblemError, SeriesRefusedError, UnreachableError
from gatecast_client.requests import Series
from gatecast_client.retries import RetryPolicy
from gatecast_client.tables import Columns

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "Columns",
    "Forecast",
    "ProblemError",
    "RetryPolicy",
    "Series",
    "SeriesError",
    "SeriesForecast",
    "SeriesRefusedError",
    "UnreachableError",
]
