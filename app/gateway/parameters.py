"""Parameters of the routes: what a path names, and headers that a request may have."""

from typing import Annotated

from fastapi import Header, Path

LARGEST_TIMEOUT_MS = 86_400_000
TRAFFIC_KEY = b"x-traffic-key"
"""Header of requests that are to meet one version, where labels have shares of the traffic."""

ModelName = Annotated[
    str, Path(description="Name of a model in the model repository.", examples=["monthly"])
]
VersionOrLabel = Annotated[
    str,
    Path(
        description="Version of the model: its number, or a label that names it.",
        examples=["1", "stable"],
    ),
]
TimeoutMs = Annotated[
    int,
    Header(
        alias="X-Request-Timeout-Ms",
        ge=1,
        le=LARGEST_TIMEOUT_MS,
        description=(
            "Milliseconds that a request of JSON may take; only shortens the service's limit."
        ),
    ),
]
