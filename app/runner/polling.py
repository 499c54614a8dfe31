"""Watches the model repository, where the service is told to poll it.

A model whose files look the same in two looks and otherwise than when they were last loaded is
loaded again; one whose files are gone is unloaded. Two looks, so that no file is read while it is
being copied: a rename into place is still the way to publish.

What was loaded last outlives the runner, so that one that takes its place sees what changed while
none was there. It is written down before a model is loaded: a model that took a runner along is not
tried again until its files change.
"""

import asyncio
import logging
from pathlib import Path

from app.errors import GatecastError, StartupError
from app.runner.memory import recall, remember
from app.runner.repository import Repository, Stamp
from app.runner.shelf import ModelShelf

logger = logging.getLogger(__name__)


Stamps = dict[str, Stamp]
"""What the files of each model look like."""


def recall_stamps(repository: Repository, memory: Path) -> Stamps:
    """Return what a lost runner loaded last, else what is there now: then ``memory`` says so.

    Raises:
        StartupError: There is no repository.
    """
    found = repository.stamps()
    recalled = recall(memory, Stamps)
    if recalled is None:
        try:
            remember(memory, found)
        except OSError as error:  # the next runner begins with what is there then
            logger.warning("the files that were loaded can not be written down: %s", error)
        return found
    return {name: stamp for name, stamp in recalled.items() if name in found}


class Poller:
    """Brings a shelf in line with a repository.

    Args:
        repository: What is looked at.
        shelf: What is changed.
        memory: File that keeps what was loaded last.
        settled: What ``recall_stamps`` returned, before the first model was loaded.
    """

    def __init__(
        self, repository: Repository, shelf: ModelShelf, *, memory: Path, settled: Stamps
    ) -> None:
        self._repository = repository
        self._shelf = shelf
        self._memory = memory
        self._seen: Stamps = {}
        self._settled = dict(settled)
        self._is_failing = False

    async def poll(self, interval_s: float) -> None:
        """Look every ``interval_s`` seconds, for ever."""
        while True:
            await asyncio.sleep(interval_s)
            await self.step()

    async def step(self) -> None:
        """Look once, and change what has settled since the last look."""
        try:
            found = await asyncio.to_thread(self._repository.stamps)
        except (StartupError, OSError) as error:
            logger.warning("the models stay as they are: %s", error)
            return
        for name in self._settled.keys() - found.keys():
            await self._settle(name, None)
        for name, stamp in found.items():
            if stamp == self._seen.get(name) and stamp != self._settled.get(name):
                await self._settle(name, stamp)
        self._seen = found

    async def _settle(self, model_name: str, stamp: Stamp | None) -> None:
        """Change a model, or unload one that has no files, once that is written down."""
        settled = {name: one for name, one in self._settled.items() if name != model_name}
        if stamp is not None:
            settled[model_name] = stamp
        if self._remember(settled):
            self._settled = settled
            await self._change(model_name, is_gone=stamp is None)

    def _remember(self, settled: Stamps) -> bool:
        """Write down what was loaded last; where that fails the next look tries it again."""
        try:
            remember(self._memory, settled)
        except OSError as error:
            if not self._is_failing:
                logger.warning("the models stay as they are: %s", error)
            self._is_failing = True
            return False
        self._is_failing = False
        return True

    async def _change(self, model_name: str, *, is_gone: bool) -> None:
        try:
            await (self._shelf.unload if is_gone else self._shelf.load)(model_name)
        except (GatecastError, OSError) as error:  # files come and go; the index has reasons
            logger.warning("model %s: %s", model_name, error)
