"""Runs histories from the states that are kept of them, so that only their new values are run.

A request is divided: rows that go on from a kept state are run over their new steps, in parts of
like length that share runs with those of other requests; rows of which nothing is kept are run
whole; a row that is known to its end is not run at all. The caller gets one answer, as if every row
had been run whole, or the first error. A state is kept only of an answer that was given.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np

from app.errors import GatecastError
from app.interface import Interface
from app.runner.batcher import DynamicBatcher
from app.runner.history import HistoryLayout, Span
from app.runner.queue import PendingRequest
from app.runner.state_cache import LEAST_STEPS, Found, Kept, StateCache, Version
from app.statistics import failure_reason
from app.tensors import Tensors

_WHOLE = -1


class Histories:
    """Divides requests between a cache and the batchers of the models that are served.

    Args:
        cache: What is kept.
    """

    def __init__(self, cache: StateCache) -> None:
        self._cache = cache
        self._layouts: dict[Version, HistoryLayout] = {}

    def serve(self, versions: Iterable[tuple[Version, Interface]]) -> None:
        """Learn which model files are served now, and forget what others have made."""
        self._layouts = {
            version: self._layouts.get(version) or HistoryLayout(interface)
            for version, interface in versions
            if HistoryLayout.fits(interface)
        }
        self._cache.keep_only(self._layouts.keys())

    def takes(self, request: PendingRequest, version: Version) -> bool:
        """Whether states can be kept for a request: its model is served and it brings none."""
        layout = self._layouts.get(version)
        return layout is not None and not any(
            state.name in request.inputs or state.next_name in request.outputs
            for state in layout.states
        )

    def submit(
        self, request: PendingRequest, batcher: DynamicBatcher, version: Version, owner: str
    ) -> Callable[[], None] | None:
        """Queue what has to be run of a request; its ``answer`` is called exactly once.

        Args:
            request: One that ``takes`` says yes to.
            batcher: Of its model.
            version: Its model.
            owner: Id of the caller's key; no key gets what another has paid for.

        Returns: What to call when the caller has left; None where it is answered already.

        Raises:
            GatecastError: As ``DynamicBatcher.submit``; then nothing is run.
        """
        layout = self._layouts[version]
        scope = "\0".join((owner, *map(str, version))).encode()
        found = [
            self._find(layout, request, row, length, scope=scope, version=version)
            for row, length in enumerate(layout.lengths(request.inputs))
        ]
        divided = _DividedRequest(request, batcher, layout, found, self._cache)
        divided.submit()
        return divided.abandon if request.is_waiting else None

    def _find(
        self,
        layout: HistoryLayout,
        request: PendingRequest,
        row: int,
        length: int,
        *,
        scope: bytes,
        version: Version,
    ) -> tuple[int, Found | None]:
        if length < LEAST_STEPS:
            return length, None
        history = layout.read(request.inputs, row, length, scope)
        return length, self._cache.find(history, version, request.outputs)


class _DividedRequest:
    """One request, from its parts to its answer.

    In the statistics one part at a time stands for it, the last one to be run in the end.
    """

    def __init__(
        self,
        request: PendingRequest,
        batcher: DynamicBatcher,
        layout: HistoryLayout,
        found: Sequence[tuple[int, Found | None]],
        cache: StateCache,
    ) -> None:
        self._request = request
        self._batcher = batcher
        self._layout = layout
        self._found = [one for _, one in found]
        self._cache = cache
        self._rows: list[Tensors | None] = [None] * len(found)
        self._waiting: dict[int, PendingRequest] = {}
        self._spans = [
            Span(row, one.length if one else 0, length) for row, (length, one) in enumerate(found)
        ]

    def submit(self) -> None:
        """Queue the parts, or answer at once where all is known."""
        groups: defaultdict[int, list[Span]] = defaultdict(list)
        for span in self._spans:
            if span.steps:
                groups[(span.steps - 1).bit_length() if span.first else _WHOLE].append(span)
            else:
                self._rows[span.row] = self._kept(span).outputs
        if not groups:
            self._finish_without_run()
            return
        self._waiting = {n: self._to_part(n, spans) for n, spans in enumerate(groups.values())}
        try:
            for part in list(self._waiting.values()):
                self._batcher.submit(part)
        except GatecastError:  # who sent the request counts that it was refused
            self._withdraw()
            raise

    def abandon(self) -> None:
        """Forget the caller, who has left, and what waits for a run."""
        self._request.abandon()
        for part in self._waiting.values():
            self._batcher.abandon(part)
        self._waiting.clear()

    def _withdraw(self) -> None:
        """Abandon a request that is counted."""
        for part in self._waiting.values():
            part.is_counted = False
        self.abandon()

    def _to_part(self, number: int, spans: Sequence[Span]) -> PendingRequest:
        states = [self._kept(span).states if span.first else None for span in spans]
        inputs = self._layout.join_states(states) | self._layout.cut(self._request.inputs, spans)
        names = [state.next_name for state in self._layout.states]
        return PendingRequest(
            inputs,
            [*self._request.outputs, *names],
            self._layout.extent_of(inputs),
            self._request.terms,
            answer=partial(self._take, number, spans),
            is_counted=number == 0,
        )

    def _kept(self, span: Span) -> Kept:
        found = self._found[span.row]
        if found is None or found.kept is None:
            raise LookupError("nothing is kept of this row")
        return found.kept

    def _take(self, number: int, spans: Sequence[Span], answer: Tensors | GatecastError) -> None:
        part = self._waiting.pop(number)
        if isinstance(answer, GatecastError):
            self._fail(part, answer)
            return
        for place, span in enumerate(spans):
            self._rows[span.row] = self._keep(span, answer, slice(place, place + 1))
        if not self._waiting:
            self._finish()
        elif part.is_counted:  # a batcher counts its answers after giving them, failures before
            part.is_counted = False
            next(iter(self._waiting.values())).is_counted = True

    def _fail(self, part: PendingRequest, error: GatecastError) -> None:
        if not part.is_counted:
            waited = time.monotonic() - self._request.terms.queued_at
            self._batcher.statistics.record_failure(waited, failure_reason(error))
        self._request.answer(error)
        self._withdraw()

    def _keep(self, span: Span, answer: Tensors, row: slice) -> Tensors:
        """Keep what is known of a row now, and return its answer."""
        found = self._found[span.row]
        if found is None:
            return {name: answer[name][row] for name in self._request.outputs}
        # Copies: a view would keep the whole batch in memory.
        states = {s.name: answer[s.next_name][row].copy() for s in self._layout.states}
        outputs = {name: answer[name][row].copy() for name in self._request.outputs}
        self._cache.put(found.place, Kept(states, outputs))
        return outputs

    def _finish(self) -> None:
        rows = [row for row in self._rows if row is not None]
        self._request.answer(
            {name: np.concatenate([row[name] for row in rows]) for name in self._request.outputs}
        )

    def _finish_without_run(self) -> None:
        waited = time.monotonic() - self._request.terms.queued_at
        self._batcher.statistics.success.record(waited)
        self._finish()
