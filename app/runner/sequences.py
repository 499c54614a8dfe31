"""Keeps the states of sequences between their requests.

A sequence belongs to the caller who began it, to one model version as it was loaded then, and to
this runner: gateways send every part of it here. Its requests run one after the other in the order
in which they came, each from the state that the one before it left; different sequences share runs
like all requests.

A state changes only by an answer that was given. When a request fails, or its caller leaves, the
state stays what it was, and requests that already waited behind it are refused, up to a new start:
their numbers would lack a part of the series.
"""

import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from app import metrics
from app.errors import (
    GatecastError,
    InvalidInputError,
    OverloadedError,
    SequenceConflictError,
    UnknownSequenceError,
)
from app.interface import Interface
from app.runner.batcher import DynamicBatcher
from app.runner.queue import PendingRequest
from app.statistics import failure_reason
from app.tensors import Tensors
from app.wire import SequencePart

_MAX_REMEMBERED = 10_000
_MAX_TURNS = 1000
"""Of one sequence: each takes a run of its own, so more could hardly be answered in time."""

Key = tuple[str, str, int | str]
"""Owner, model name and id."""


@dataclass(slots=True, eq=False)
class Turn:
    """One request of a sequence, from its arrival to its answer.

    ``pending`` becomes what runs, with the state in it, once those before it are answered.
    """

    part: SequencePart
    request: PendingRequest
    batcher: DynamicBatcher
    interface: Interface
    pending: PendingRequest | None = None


@dataclass(slots=True, eq=False)
class _Sequence:
    """``states`` are None before its first answer and after its end.

    ``batcher`` is the one that gave them; a weak reference, for a model that was unloaded must go.
    """

    states: Tensors | None = None
    batcher: weakref.ref[DynamicBatcher] | None = None
    used_at: float = 0.0
    turns: deque[Turn] = field(default_factory=deque)


class Sequences:
    """All sequences of one runner.

    Args:
        max_sequences: Most that may be open.
        idle_timeout_s: One that was not used for so long is forgotten.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        *,
        max_sequences: int,
        idle_timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_sequences = max_sequences
        self._idle_timeout_s = idle_timeout_s
        self._clock = clock
        self._sequences: OrderedDict[Key, _Sequence] = OrderedDict()
        self._expired: OrderedDict[Key, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sequences)

    def submit(self, turn: Turn) -> None:
        """Queue a request behind those of its sequence; its ``answer`` is called exactly once.

        Raises:
            UnknownSequenceError: It begins no sequence, and there is none to go on with.
            SequenceConflictError: The model was replaced since the sequence began.
            OverloadedError: All sequences that may be open are, or too many requests of this one
                wait.
            InvalidInputError: The model carries no state, or the request brings one of its own.
            ShuttingDownError: The batcher takes no new requests.
        """
        if not turn.interface.states:
            raise InvalidInputError("the model carries no state, so it has no sequences")
        turn.batcher.check_open()
        self.expire()
        key = _key_of(turn)
        sequence = self._sequences.get(key)
        if sequence is None:
            sequence = self._open(key, turn)
        elif not sequence.turns:
            _check_turn(sequence, turn)
        elif len(sequence.turns) >= _MAX_TURNS:
            raise OverloadedError(f"{_MAX_TURNS} requests of this sequence wait already")
        self._touch(key, sequence)
        sequence.turns.append(turn)
        if len(sequence.turns) > 1:
            return
        try:
            self._begin(key, sequence)
        except GatecastError:
            self._give_up(key, sequence, turn)
            raise

    def abandon(self, turn: Turn) -> None:
        """Forget a request whose caller has left; the state stays as it is."""
        key = _key_of(turn)
        turn.request.abandon()
        sequence = self._sequences.get(key)
        if sequence is None or turn not in sequence.turns:
            return
        if turn.pending is not None:
            turn.batcher.abandon(turn.pending)
        self._give_up(key, sequence, turn)

    def expire(self) -> None:
        """Forget the sequences that were not used for too long."""
        for key in self._idle_keys():
            self._close(key)
            metrics.SEQUENCES_EXPIRED.labels(key[1]).inc()
            self._expired[key] = None
            if len(self._expired) > _MAX_REMEMBERED:
                self._expired.popitem(last=False)

    def _idle_keys(self) -> list[Key]:
        oldest = self._clock() - self._idle_timeout_s
        keys: list[Key] = []
        for key, sequence in self._sequences.items():
            if sequence.used_at > oldest:
                break
            if not sequence.turns:
                keys.append(key)
        return keys

    def _open(self, key: Key, turn: Turn) -> _Sequence:
        if not turn.part.is_start:
            raise self._unknown(key)
        if len(self._sequences) >= self._max_sequences:
            raise OverloadedError(f"all {self._max_sequences} sequences of this runner are open")
        self._expired.pop(key, None)
        self._sequences[key] = _Sequence()
        metrics.SEQUENCES_OPEN.labels(key[1]).inc()
        return self._sequences[key]

    def _close(self, key: Key) -> None:
        if self._sequences.pop(key, None) is not None:
            metrics.SEQUENCES_OPEN.labels(key[1]).dec()

    def _touch(self, key: Key, sequence: _Sequence) -> None:
        sequence.used_at = self._clock()
        self._sequences.move_to_end(key)

    def _begin(self, key: Key, sequence: _Sequence) -> None:
        turn = sequence.turns[0]
        turn.pending = self._to_pending(key, sequence, turn)
        turn.batcher.resume(turn.pending)

    def _to_pending(self, key: Key, sequence: _Sequence, turn: Turn) -> PendingRequest:
        """Return the request with the state that it goes on from."""
        if sequence.states is None and not turn.part.is_start:
            raise self._unknown(key)
        _check_turn(sequence, turn)
        request, interface = turn.request, turn.interface
        states = sequence.states
        if turn.part.is_start or states is None:
            states = interface.initial_states(request.extent.rows)
        inputs = states | request.inputs
        outputs = {*request.outputs, *(state.next_name for state in interface.states)}
        return PendingRequest(
            inputs,
            sorted(outputs),
            interface.extent_of(inputs),
            request.terms,
            answer=partial(self._finish, key, sequence, turn),
        )

    def _finish(
        self, key: Key, sequence: _Sequence, turn: Turn, answer: Tensors | GatecastError
    ) -> None:
        if isinstance(answer, GatecastError):
            turn.request.answer(answer)
            self._give_up(key, sequence, turn)
            return
        sequence.turns.popleft()
        sequence.states = None
        if not turn.part.is_end:
            pairs = turn.interface.states  # copies: a view would keep the whole batch in memory
            sequence.states = {pair.name: answer[pair.next_name].copy() for pair in pairs}
            sequence.batcher = weakref.ref(turn.batcher)
        self._touch(key, sequence)
        turn.request.answer({name: answer[name] for name in turn.request.outputs})
        self._go_on(key, sequence)

    def _give_up(self, key: Key, sequence: _Sequence, turn: Turn) -> None:
        """Take a request out as ``_take_out``, and begin the next one if it stood first."""
        was_first = sequence.turns[0] is turn
        self._take_out(sequence, turn)
        if was_first:
            self._go_on(key, sequence)

    def _take_out(self, sequence: _Sequence, turn: Turn) -> None:
        """Take a request out that gave no answer, and refuse those behind it, up to a new start."""
        place = sequence.turns.index(turn)
        del sequence.turns[place]
        if turn.part.is_start and turn.pending is not None:
            sequence.states = None  # what was before it was given up by its start
        while place < len(sequence.turns) and not sequence.turns[place].part.is_start:
            behind = sequence.turns[place]
            del sequence.turns[place]
            self._refuse(
                behind, SequenceConflictError("an earlier request of this sequence gave no answer")
            )

    def _go_on(self, key: Key, sequence: _Sequence) -> None:
        """Begin the first request that can be begun, and refuse those before it."""
        while sequence.turns:
            turn = sequence.turns[0]
            try:
                self._begin(key, sequence)
            except GatecastError as error:
                self._refuse(turn, error)
                self._take_out(sequence, turn)
            else:
                return
        if sequence.states is None:
            self._close(key)

    def _refuse(self, turn: Turn, error: GatecastError) -> None:
        waited = self._clock() - turn.request.terms.queued_at
        turn.batcher.statistics.record_failure(waited, failure_reason(error))
        turn.request.answer(error)

    def _unknown(self, key: Key) -> UnknownSequenceError:
        if key in self._expired:
            return UnknownSequenceError(
                f"the sequence was not used for {self._idle_timeout_s:g} s and is forgotten;"
                " begin it anew with sequence_start"
            )
        return UnknownSequenceError(
            "there is no such sequence: it was not begun, has ended, or its runner was replaced;"
            " begin it with sequence_start"
        )


def _check_turn(sequence: _Sequence, turn: Turn) -> None:
    """Check that a request can go on from the state of its sequence."""
    if turn.part.is_start:
        return
    if turn.request.inputs.keys() & turn.interface.state_names:
        raise InvalidInputError("states may come with the first request of a sequence alone")
    if sequence.states is None or sequence.batcher is None:
        return
    if sequence.batcher() is not turn.batcher:
        raise SequenceConflictError(
            "the sequence was begun on another version of the model; name that version, or begin"
            " anew with sequence_start"
        )
    initial = turn.interface.initial_states(turn.request.extent.rows)
    if any(initial[name].shape != array.shape for name, array in sequence.states.items()):
        raise InvalidInputError("all requests of a sequence must have the same number of rows")


def _key_of(turn: Turn) -> Key:
    return turn.part.owner, turn.part.model_name, turn.part.id
