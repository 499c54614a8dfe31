"""Labels of versions, set and removed while the service runs."""

import asyncio
import re
from functools import partial
from typing import Annotated, Any

import msgspec
from fastapi import Path, Request

from app.errors import InvalidInputError, NotSupportedError
from app.gateway.body import read_body
from app.gateway.catalog import Catalog
from app.gateway.exchange import exchange_of
from app.gateway.label_file import keep_label
from app.gateway.parameters import ModelName
from app.gateway.runners import Runners
from app.model_config import LABEL_PATTERN, LabelChange
from app.settings import Settings

Json = dict[str, Any]
Label = Annotated[str, Path(description="Name that stands for a version.", examples=["canary"])]

LABEL_BODY: Json = {
    "type": "object",
    "required": ["version"],
    "properties": {
        "version": {"type": "integer", "minimum": 1},
        "share": {
            "type": ["number", "null"],
            "minimum": 0,
            "maximum": 1,
            "description": "Of the requests without a version; left out, it stays as it is.",
        },
    },
}


class _LabelBody(msgspec.Struct, forbid_unknown_fields=True):
    version: Annotated[int, msgspec.Meta(ge=1, lt=10**18)]
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None


class LabelEndpoints:
    """``/v2/repository/models/{model_name}/labels/{label}``."""

    def __init__(self, runners: Runners, settings: Settings) -> None:
        self._runners = runners
        self._catalog = Catalog(runners)
        self._settings = settings
        self._changing = asyncio.Lock()

    async def set_label(self, request: Request, model_name: ModelName, label: Label) -> Json:
        """Have a label stand for a version, and get a share of the requests without a version."""
        self._check(request, model_name, label)
        body = await read_body(
            request.scope,
            request.receive,
            encodings=(),
            max_bytes=self._settings.max_body_bytes,
            timeout_s=self._settings.body_timeout_s,
        )
        try:
            asked = msgspec.json.decode(body, type=_LabelBody)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidInputError(
                "the body must be an object with version, a whole number from 1, and share, a"
                " number from 0 to 1 that may be left out"
            ) from error
        await self._change(model_name, LabelChange(label, asked.version, asked.share))
        return {}

    async def remove_label(self, request: Request, model_name: ModelName, label: Label) -> Json:
        """Remove a label, and its share."""
        self._check(request, model_name, label)
        await self._change(model_name, LabelChange(label, None))
        return {}

    def _check(self, request: Request, model_name: str, label: str) -> None:
        if self._settings.model_control == "fixed":
            raise NotSupportedError(
                "labels are set by request only where GATECAST_MODEL_CONTROL is explicit or poll;"
                " it is fixed"
            )
        if not re.fullmatch(LABEL_PATTERN, label):
            raise InvalidInputError(
                "a label begins with a letter and has up to 64 letters, digits, dots, dashes and"
                " underscores"
            )
        self._catalog.find(model_name)  # its name is now known to be that of a folder
        exchange_of(request.scope).model_name = model_name

    async def _change(self, model_name: str, change: LabelChange) -> None:
        loop = asyncio.get_running_loop()

        def apply() -> None:
            changing = self._runners.label(model_name, change)
            asyncio.run_coroutine_threadsafe(changing, loop).result()

        directory = self._settings.model_repository / model_name
        async with self._changing:  # one thread at a time, whoever else holds the folder's lock
            await asyncio.to_thread(partial(keep_label, directory, change, apply))
