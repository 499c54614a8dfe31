"""What can go wrong in a call.

ClientError
├── ProblemError          the service refused the request, or failed; or something else answered
├── SeriesRefusedError    a series of a table can not be forecast
└── UnreachableError      no answer came
"""

from collections.abc import Mapping, Sequence
from typing import Any


class ClientError(Exception):
    """Anything this client raises on purpose."""


class UnreachableError(ClientError):
    """The connection could not be made, broke, or was silent for too long."""


class ProblemError(ClientError):
    """The service answered with an error, or what answered is not the service.

    Attributes:
        status: HTTP status.
        type: Kind of problem, such as ``model-not-found``.
        detail: One sentence.
        request_id: To be looked up in the service's log.
        errors: Places in the request, each with ``pointer`` or ``parameter`` and ``detail``.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.type = str(problem.get("type", "about:blank"))
        self.detail = str(problem.get("detail", ""))
        self.request_id = str(problem.get("request_id", ""))
        self.errors: Sequence[Mapping[str, str]] = problem.get("errors", ())
        super().__init__(f"{status} {self.type}: {self.detail}")


class SeriesRefusedError(ClientError):
    """A series can not be forecast; ``item_id`` names it."""

    def __init__(self, item_id: object, detail: str) -> None:
        self.item_id = item_id
        self.detail = detail
        super().__init__(f"series {item_id}: {detail}")
