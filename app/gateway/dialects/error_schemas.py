"""The error bodies of the dialects, for the API's description; ``error_bodies`` writes them."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from app.gateway.dialect_table import ErrorForm


class TimeGptError(Struct, kw_only=True):
    """An error as the ``nixtla`` SDK shows it; ``detail`` lists places where the status is 422."""

    data: None
    message: str
    details: str
    detail: Any
    code: str
    requestID: str  # noqa: N815 - the provider's spelling
    support: str


class SageMakerError(Struct, kw_only=True):
    """An error of a model server on SageMaker."""

    code: int
    type: str
    message: str


class GoogleStatus(Struct, kw_only=True):
    """An error of a Google API."""

    code: int
    message: str
    status: str


class VertexError(Struct, kw_only=True):
    """An error on Vertex AI."""

    error: GoogleStatus


class KServeError(Struct, kw_only=True):
    """An error of KServe's v1 protocol."""

    error: str


class KServeTimeSeriesStatus(Struct, kw_only=True):
    """What went wrong, and with which field."""

    code: str
    message: str
    param: str
    type: str


class KServeTimeSeriesError(Struct, kw_only=True):
    """An error of KServe's forecast API."""

    error: KServeTimeSeriesStatus


ERROR_SCHEMAS: Mapping[ErrorForm, type[Struct]] = {
    ErrorForm.TIMEGPT: TimeGptError,
    ErrorForm.SAGEMAKER: SageMakerError,
    ErrorForm.VERTEX: VertexError,
    ErrorForm.KSERVE: KServeError,
    ErrorForm.KSERVE_TIMESERIES: KServeTimeSeriesError,
}
