"""Made-up series that show a forecaster what it will meet: ragged, seasonal and gappy."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.tensors import Tensors
from models.config import NetworkConfig

_MISSING_SHARE = 0.1
_NOISE = 0.1
_SMALLEST_EXPONENT, _LARGEST_EXPONENT = -2.0, 5.0


def make_samples(config: NetworkConfig, lengths: Sequence[int], seed: int) -> Tensors:
    """Return the inputs, without states, of one made-up series per length.

    Args:
        config: What the forecaster takes.
        lengths: Steps of each series, at least 1; rows are padded on the right to the longest.
        seed: Fixes every number.

    Returns:
        The tensors of ``Forecaster.forward``; about a tenth of all values are missing, and all
        padding is NaN.
    """
    generator = np.random.default_rng(seed)
    sequence_lens = np.array(lengths, np.int32)
    past_target = _make_targets(generator, config, sequence_lens)
    samples: Tensors = {"past_target": past_target, "sequence_lens": sequence_lens}
    batch, time = past_target.shape
    sizes = {
        "past_covariates": (batch, time, len(config.past_covariates)),
        "future_covariates": (batch, time + config.horizon, len(config.future_covariates)),
        "static_covariates": (batch, len(config.static_covariates)),
    }
    samples |= {n: _make_covariates(generator, size) for n, size in sizes.items() if size[-1]}
    return fill_padding(samples, np.nan)


def fill_padding(samples: Tensors, value: float) -> Tensors:
    """Return ``samples`` with ``value`` at every step past the end of its row."""
    lengths = samples["sequence_lens"][:, None]
    time = samples["past_target"].shape[1]
    filled = dict(samples)
    for name in {"past_target", "past_covariates", "future_covariates"} & samples.keys():
        array = samples[name].copy()
        beyond = array.shape[1] - time
        array[np.arange(array.shape[1]) >= lengths + beyond] = value
        filled[name] = array
    return filled


def take_rows(samples: Tensors, rows: slice) -> Tensors:
    """Return some rows, padded only to the longest among them."""
    return take_steps({name: array[rows] for name, array in samples.items()}, 0, None)


def take_steps(samples: Tensors, first: int, lengths: NDArray[np.int32] | None) -> Tensors:
    """Return the steps from ``first`` on, as a request of its own.

    Args:
        samples: Tensors as ``make_samples`` gives them.
        first: How many steps to leave out at the beginning of every row.
        lengths: Steps to keep after them in each row; None keeps all.
    """
    kept = samples["sequence_lens"] - first if lengths is None else lengths
    time, longest = samples["past_target"].shape[1], int(kept.max())
    steps = {"sequence_lens": kept.astype(np.int32)}
    for name in samples.keys() - steps.keys():
        array = samples[name]
        if array.ndim > 1 and name in {"past_target", "past_covariates", "future_covariates"}:
            beyond = array.shape[1] - time
            array = array[:, first : first + longest + beyond]
        steps[name] = array
    return steps


def _make_targets(
    generator: np.random.Generator, config: NetworkConfig, sequence_lens: NDArray[np.int32]
) -> NDArray[np.float32]:
    batch, time = len(sequence_lens), int(sequence_lens.max())
    steps = np.arange(time)
    size = 10 ** generator.uniform(_SMALLEST_EXPONENT, _LARGEST_EXPONENT, (batch, 1))
    trend = 1 + generator.uniform(-0.002, 0.01, (batch, 1)) * steps
    swing = generator.uniform(0, 0.6, (batch, 1))
    season = 1 + swing * np.sin(2 * np.pi * (steps / max(config.season, 2) + swing))
    values = trend * season + generator.normal(0, _NOISE, (batch, time))
    if config.transform == "identity":
        values -= generator.uniform(0, 2, (batch, 1))
    values = np.where(generator.random((batch, time)) < _MISSING_SHARE, np.nan, size * values)
    return (np.abs(values) if config.transform == "log" else values).astype(np.float32)


def _make_covariates(generator: np.random.Generator, size: tuple[int, ...]) -> NDArray[np.float32]:
    values = generator.normal(0, 1, size).astype(np.float32)
    values[generator.random(size) < _MISSING_SHARE] = np.nan
    return values
