"""What a caller may rely on: an answer depends on the caller's own series and on nothing else."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from export.samples import fill_padding, make_samples, take_row, take_steps
from tests.export.exported import RELATIVE_LIMIT, export_tiny, largest_error

_ROWS = 12
_LONGEST = 64

lengths = st.lists(st.integers(1, _LONGEST), min_size=_ROWS, max_size=_ROWS)
seeds = st.integers(0, 2**32 - 1)
# Each example is several model runs, whose time hypothesis can not foresee.
unhurried = settings(max_examples=20, deadline=None, derandomize=True)


@unhurried
@given(lengths, seeds)
def test_one_series_alone_answers_as_in_a_batch(lengths: list[int], seed: int) -> None:
    exported = export_tiny()
    samples = make_samples(exported.engine.card, lengths, seed)

    together = exported.run(samples)
    alone = [exported.run(take_row(samples, row)) for row in range(_ROWS)]

    joined = {name: np.concatenate([outputs[name] for outputs in alone]) for name in together}
    assert largest_error(joined, together) < RELATIVE_LIMIT


@unhurried
@given(lengths, seeds)
def test_order_of_a_batch_does_not_matter(lengths: list[int], seed: int) -> None:
    exported = export_tiny()
    samples = make_samples(exported.engine.card, lengths, seed)
    order = np.random.default_rng(seed).permutation(_ROWS)

    mixed = exported.run({name: array[order] for name, array in samples.items()})

    ordered = {name: array[order] for name, array in exported.run(samples).items()}
    assert largest_error(mixed, ordered) < RELATIVE_LIMIT


@unhurried
@given(lengths, seeds, st.sampled_from([np.nan, 0.0, 1e30, -1e30, np.inf]))
def test_contents_of_the_padding_do_not_matter(lengths: list[int], seed: int, junk: float) -> None:
    exported = export_tiny()
    samples = make_samples(exported.engine.card, lengths, seed)

    error = largest_error(exported.run(fill_padding(samples, junk)), exported.run(samples))

    assert error < RELATIVE_LIMIT


@unhurried
@given(lengths, seeds)
def test_carried_state_answers_as_a_full_run(lengths: list[int], seed: int) -> None:
    exported = export_tiny()
    samples = make_samples(exported.engine.card, [length + 1 for length in lengths], seed)
    whole = exported.run(samples)
    cuts = np.random.default_rng(seed).integers(1, samples["sequence_lens"]).astype(np.int32)
    states = exported.carry(exported.run(take_steps(samples, 0, cuts)))

    for row, cut in enumerate(cuts):
        alone = take_row(samples, row)
        rest = take_steps(alone, int(cut), alone["sequence_lens"] - cut)
        carried = exported.run(rest | {n: array[row : row + 1] for n, array in states.items()})
        want = {name: array[row : row + 1] for name, array in whole.items()}
        assert largest_error(carried, want) < RELATIVE_LIMIT


def test_state_carried_step_by_step_answers_as_a_full_run() -> None:
    exported = export_tiny()
    samples = make_samples(exported.engine.card, [60], seed=6)
    outputs = exported.run(take_steps(samples, 0, np.array([1], np.int32)))

    for step in range(1, 60):
        new = take_steps(samples, step, np.array([1], np.int32))
        outputs = exported.run(new | exported.carry(outputs))

    assert largest_error(outputs, exported.run(samples)) < RELATIVE_LIMIT
