"""Counts requests that were refused at once, and tells of them once a second.

A log line and three metrics for each would cost more than the refusals themselves.
"""

import asyncio
import logging
from collections import Counter
from http import HTTPStatus
from typing import NamedTuple

from app.gateway.pauses import Flow
from app.metrics import REQUESTS

_PERIOD_S = 1.0

_logger = logging.getLogger("gatecast.access")


class _Refused(NamedTuple):
    path: str
    flow: Flow


class Tally:
    """Requests that were refused at once since they were told of.

    Args:
        access_log: Whether to log one line for each path and caller.
    """

    def __init__(self, *, access_log: bool) -> None:
        self._access_log = access_log
        self._counts: Counter[_Refused] = Counter()
        self._sizes: Counter[_Refused] = Counter()

    def count(self, path: str, flow: Flow, num_bytes: int) -> None:
        """Count a request whose answer has a body of ``num_bytes``."""
        if not self._counts:
            asyncio.get_running_loop().call_later(_PERIOD_S, self._tell)
        refused = _Refused(path, flow)
        self._counts[refused] += 1
        self._sizes[refused] += num_bytes

    def _tell(self) -> None:
        status = HTTPStatus.SERVICE_UNAVAILABLE.value
        for (path, flow), count in self._counts.items():
            route = _route_of(path)
            REQUESTS.labels(route, flow.model_name, "", str(status)).inc(count)
            if self._access_log:
                fields: dict[str, object] = {
                    "method": "POST",
                    "route": route,
                    "status": status,
                    "requests": count,
                    "bytes": self._sizes[_Refused(path, flow)],
                    "model_name": flow.model_name,
                }
                if flow.flow:
                    fields["key_id"] = flow.flow
                _logger.info("requests refused", extra=fields)
        self._counts.clear()
        self._sizes.clear()


def _route_of(path: str) -> str:
    version = "/versions/{model_version}" if "/versions/" in path else ""
    protocol, action = path[1:3], path.rpartition("/")[2]
    return f"/{protocol}/models/{{model_name}}{version}/{action}"
