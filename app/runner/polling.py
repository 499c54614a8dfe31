"""Watches the model repository, where the service is told to poll it.

A model whose files look the same in two looks and otherwise than when they were last loaded is
loaded again; one whose files are gone is unloaded. Two looks, so that no file is read while it is
being copied: a rename into place is still the way to publish.
"""

import asyncio
import logging

from app.errors import GatecastError, StartupError
from app.runner.repository import Repository, Stamp
from app.runner.shelf import ModelShelf

logger = logging.getLogger(__name__)


class Poller:
    """Brings a shelf in line with a repository.

    Args:
        repository: What is looked at.
        shelf: What is changed.
    """

    def __init__(self, repository: Repository, shelf: ModelShelf) -> None:
        self._repository = repository
        self._shelf = shelf
        self._seen = self._look()
        self._settled = dict(self._seen)

    async def poll(self, interval_s: float) -> None:
        """Look every ``interval_s`` seconds, for ever."""
        while True:
            await asyncio.sleep(interval_s)
            await self.step()

    async def step(self) -> None:
        """Look once, and change what has settled since the last look."""
        try:
            found = await asyncio.to_thread(self._look)
        except (StartupError, OSError) as error:
            logger.warning("the models stay as they are: %s", error)
            return
        for name in self._settled.keys() - found.keys():
            del self._settled[name]
            await self._change(name, is_gone=True)
        for name, stamp in found.items():
            if stamp == self._seen.get(name) and stamp != self._settled.get(name):
                self._settled[name] = stamp
                await self._change(name, is_gone=False)
        self._seen = found

    def _look(self) -> dict[str, Stamp]:
        return {name: self._repository.stamp(name) for name in self._repository.names()}

    async def _change(self, model_name: str, *, is_gone: bool) -> None:
        try:
            await (self._shelf.unload if is_gone else self._shelf.load)(model_name)
        except (GatecastError, OSError) as error:  # files come and go; the index has reasons
            logger.warning("model %s: %s", model_name, error)
