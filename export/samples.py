"""Made-up series that show a forecaster what it will meet: ragged, seasonal and gappy."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.artifact.card import Card
from app.tensors import Tensors

_MISSING_SHARE = 0.1
_CROSSING_SHARE = 0.25
_NOISE = 0.1
_NUM_UNKNOWN = 2
_SMALLEST_EXPONENT, _LARGEST_EXPONENT = -2.0, 5.0
_TIMED = frozenset({"past_target", "past_covariates", "future_covariates"})


def make_samples(card: Card, lengths: Sequence[int], seed: int) -> Tensors:
    """Return the inputs, without states, of one made-up series per length.

    A tenth of all values is missing, sizes reach from a hundredth to a hundred thousand, and a
    quarter of the series cross zero.

    Args:
        card: What the forecaster takes.
        lengths: Steps of each series, at least 1.
        seed: Fixes every number.

    Returns:
        The tensors that ``card.inputs`` names, padded on the right with NaN.
    """
    generator = np.random.default_rng(seed)
    sequence_lens = np.array(lengths, np.int32)
    batch, time = len(sequence_lens), int(sequence_lens.max())
    sizes = {
        "past_covariates": (batch, time, len(card.past_covariates)),
        "future_covariates": (
            batch,
            time + card.horizon,
            len(card.future_covariates) + len(card.calendar_features),
        ),
        "static_covariates": (batch, len(card.static_covariates)),
    }
    samples: Tensors = {
        "past_target": _make_targets(generator, card.season, (batch, time)),
        "sequence_lens": sequence_lens,
    }
    samples |= {n: _make_covariates(generator, size) for n, size in sizes.items() if size[-1]}
    for name, known in card.static_categories.items():
        # Those that training saw, and some that it did not.
        codes = generator.integers(-1, len(known) + _NUM_UNKNOWN, batch, endpoint=True)
        samples["static_covariates"][:, card.static_covariates.index(name)] = codes
    return fill_padding(samples, np.nan)


def fill_padding(samples: Tensors, value: float) -> Tensors:
    """Return ``samples`` with ``value`` at every step past the end of its row."""
    lengths = samples["sequence_lens"][:, None]
    filled = dict(samples)
    for name in _TIMED & samples.keys():
        array = samples[name].copy()
        beyond = array.shape[1] - samples["past_target"].shape[1]
        array[np.arange(array.shape[1]) >= lengths + beyond] = value
        filled[name] = array
    return filled


def take_row(samples: Tensors, row: int) -> Tensors:
    """Return one series as a batch of its own, without padding."""
    alone = {name: array[row : row + 1] for name, array in samples.items()}
    return take_steps(alone, 0, alone["sequence_lens"])


def take_steps(samples: Tensors, first: int, lengths: NDArray[np.int32]) -> Tensors:
    """Return ``lengths`` steps of each row from step ``first`` on, as inputs of their own."""
    longest = int(lengths.max())
    taken = dict(samples) | {"sequence_lens": lengths}
    for name in _TIMED & samples.keys():
        beyond = samples[name].shape[1] - samples["past_target"].shape[1]
        taken[name] = samples[name][:, first : first + longest + beyond]
    return taken


def _make_targets(
    generator: np.random.Generator, season: int, size: tuple[int, int]
) -> NDArray[np.float32]:
    rows, steps = (size[0], 1), np.arange(size[1])
    scale = 10 ** generator.uniform(_SMALLEST_EXPONENT, _LARGEST_EXPONENT, rows)
    trend = 1 + generator.uniform(-0.002, 0.01, rows) * steps
    swing = generator.uniform(0, 0.6, rows)
    wave = 1 + swing * np.sin(2 * np.pi * (steps / max(season, 2) + swing))
    values = trend * wave + generator.normal(0, _NOISE, size)
    values -= generator.random(rows) < _CROSSING_SHARE
    missing = generator.random(size) < _MISSING_SHARE
    return np.where(missing, np.nan, scale * values).astype(np.float32)


def _make_covariates(generator: np.random.Generator, size: tuple[int, ...]) -> NDArray[np.float32]:
    values = generator.normal(0, 1, size).astype(np.float32)
    values[generator.random(size) < _MISSING_SHARE] = np.nan
    return values
