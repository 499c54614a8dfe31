"""Reads the declared shapes of a plain model: which dimension may count rows, and which steps."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from app.artifact.specs import TensorSpec
from app.interface import BATCH, TIME, Interface, State

_BATCH_NAMES = frozenset({"b", "bs", "n", "rows", "num_rows", "num_series", "num_sequences"})
_TIME_NAMES = frozenset({"t", "l", "steps", "num_steps"})
_TIME_WORDS = ("time", "seq", "len", "step")
_LENGTH_TYPES = frozenset({"INT32", "INT64"})


def batch_readings(declared: Interface) -> Iterator[Interface]:
    """Rename dimensions to ``batch`` and ``time``, the likeliest reading first.

    A reading has a ``batch`` in every input: what has none can not be shared by rows.
    """
    tried: set[frozenset[str]] = set()
    for names in _batch_names(declared):
        reading = _rename(declared, dict.fromkeys(names, BATCH))
        if names not in tried and all(spec.shape.count(BATCH) == 1 for spec in reading.inputs):
            tried.add(names)
            yield replace(_name_time(reading), is_mergeable=True)


def possible_lengths(reading: Interface) -> list[str]:
    """List the inputs that may hold the valid steps of each row: whole numbers, one a row."""
    if not any(TIME in spec.shape for spec in reading.inputs):
        return []
    return [
        spec.name
        for spec in reading.inputs
        if spec.shape == (BATCH,) and spec.datatype in _LENGTH_TYPES
    ]


def find_states(interface: Interface) -> tuple[State, ...]:
    """Pair inputs with the outputs that carry them on, by name; type and shape must agree.

    The pairs are ``X`` with ``next_X``, ``new_X``, ``X_next``, ``X_new`` or ``X_out``; ``X_in``
    with ``X_out``; ``initial_X`` with ``final_X`` or ``Y_X``; ``X0`` with ``Xn``; ``X_0`` with
    ``X_n``.
    """
    outputs = interface.output_specs
    states: list[State] = []
    for spec in interface.inputs:
        sizes = {size for size in spec.shape if isinstance(size, str)}
        for name in _next_names(spec.name):
            found = outputs.get(name)
            is_same = found is not None and (found.datatype, found.shape) == (
                spec.datatype,
                spec.shape,
            )
            if is_same and sizes <= {BATCH} and spec.datatype != "BYTES":
                states.append(State(spec.name, name))
                break
    return tuple(states)


def _next_names(name: str) -> Iterator[str]:
    yield from (f"next_{name}", f"new_{name}", f"{name}_next", f"{name}_new", f"{name}_out")
    if name.endswith("_in"):
        yield f"{name.removesuffix('_in')}_out"
    if name.startswith("initial_"):
        stem = name.removeprefix("initial_")
        yield from (f"final_{stem}", f"Y_{stem}")
    if name.endswith("0"):
        yield f"{name.removesuffix('0')}n"


def _batch_names(declared: Interface) -> Iterator[frozenset[str]]:
    """Yield sets of dimension names that may all stand for the batch."""
    named = [name for spec in declared.inputs for name in _free_sizes(spec)]
    yield frozenset(n for n in named if n.lower() in _BATCH_NAMES or "batch" in n.lower())
    for name in dict.fromkeys(named):
        if all(name in spec.shape for spec in declared.inputs):
            yield frozenset({name})
    sizes = [_free_sizes(spec) for spec in declared.inputs]
    if all(sizes):
        yield frozenset(free[0] for free in sizes)
        yield frozenset(free[min(1, len(free) - 1)] for free in sizes)


def _name_time(reading: Interface) -> Interface:
    """Name the likeliest dimension of the steps; where there is no other than the batch, none."""
    names = [n for spec in reading.inputs for n in _free_sizes(spec) if n != BATCH]
    if not names:
        return reading
    likely = [name for name in names if _sounds_like_time(name)]
    return _rename(reading, {(likely or names)[0]: TIME})


def _sounds_like_time(name: str) -> bool:
    lower = name.lower()
    return lower in _TIME_NAMES or any(word in lower for word in _TIME_WORDS)


def _free_sizes(spec: TensorSpec) -> list[str]:
    return [size for size in spec.shape if isinstance(size, str)]


def _rename(interface: Interface, names: Mapping[str, str]) -> Interface:
    inputs = tuple(
        TensorSpec(
            name=spec.name,
            datatype=spec.datatype,
            shape=tuple(
                names.get(size, size) if isinstance(size, str) else size for size in spec.shape
            ),
        )
        for spec in interface.inputs
    )
    return replace(interface, inputs=inputs)
