"""One temperature for all logits, so that probabilities are as sure as the answers are right.

Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2: the logits are divided by
the number that gives held-back data the least cross-entropy. The most likely class stays the same.
"""

import math

import numpy as np
from numpy.typing import NDArray

_LOWEST, _HIGHEST = math.log(0.2), math.log(10.0)
_NUM_STEPS = 60
_GOLDEN = (math.sqrt(5) - 1) / 2
_NUM_BINS = 10


def fit_temperature(logits: NDArray[np.float64], answers: NDArray[np.int64]) -> float:
    """Return the temperature of least cross-entropy, between 0.2 and 10.

    A prior as heavy as one answer, normal in the logarithm around 1, keeps it from the ends where
    every held-back answer is right.

    Args:
        logits: ``(count, num_classes)``.
        answers: ``(count,)``, numbers of the true classes.
    """
    if not len(answers):
        return 1.0

    def loss(log_temperature: float) -> float:
        prior = log_temperature**2 / (2 * len(answers))
        return log_loss(softmax(logits / math.exp(log_temperature)), answers) + prior

    low, high = _LOWEST, _HIGHEST
    for _ in range(_NUM_STEPS):  # golden-section search: the loss has one minimum
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities over the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities: NDArray[np.float64] = powers / powers.sum(-1, keepdims=True)
    return probabilities


def log_loss(probabilities: NDArray[np.float64], answers: NDArray[np.int64]) -> float:
    """Return the mean cross-entropy of true classes ``(count,)``, in nats."""
    chosen = probabilities[np.arange(len(answers)), answers]
    return float(-np.log(chosen.clip(min=1e-12)).mean())


def calibration_error(probabilities: NDArray[np.float64], answers: NDArray[np.int64]) -> float:
    """Return the expected calibration error over ten equal bins of the highest probability.

    Guo et al. 2017, equation 3: the mean distance of the share of right answers in a bin from the
    mean probability in it, weighted by the answers in it.
    """
    surest, is_right = probabilities.max(-1), probabilities.argmax(-1) == answers
    bins = np.minimum((surest * _NUM_BINS).astype(int), _NUM_BINS - 1)
    gaps = [
        abs(float(is_right[bins == number].mean() - surest[bins == number].mean()))
        * int((bins == number).sum())
        for number in np.unique(bins)
    ]
    return sum(gaps) / len(answers)
