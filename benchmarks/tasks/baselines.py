"""Standard methods on the same data: scikit-learn's, and the nearest neighbour by time warping."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from models.sequences.examples import Example, ExampleSet

Floats = NDArray[np.float64]
Answers = tuple[Floats, Floats]
"""What a method answers and what is true, as of ``models.sequences.scores.answer_examples``."""

_REACH = 3
_TREES = 200
_SEED = 1
_MOST_NEIGHBOURS = 400
"""Sequences above which time warping, whose cost grows with the square, is left out."""


def list_baselines(
    training: ExampleSet, test: ExampleSet
) -> Iterator[tuple[str, Callable[[], Answers]]]:
    """Yield the name of each method and a function that fits and answers."""
    flat = "window of 7 hours" if training.task == "tag" else "flattened"
    for name, model in _models(training.task).items():
        yield f"{name}, {flat}", _Fit(model, training, test)
    is_few = len(training.examples) <= _MOST_NEIGHBOURS
    if training.task == "classify" and is_few:
        yield "nearest neighbour, dynamic time warping", lambda: _answer_nearest(training, test)


def _models(task: str) -> dict[str, Any]:
    prepare = SimpleImputer(), StandardScaler()
    if task == "regress":
        forest = RandomForestRegressor(_TREES, random_state=_SEED)
        ridge = RidgeCV(np.logspace(-2, 5, 15))
        return {
            "ridge regression": make_pipeline(*prepare, ridge),
            "random forest": make_pipeline(SimpleImputer(), forest),
        }
    forest = RandomForestClassifier(_TREES, random_state=_SEED)
    models = {
        "logistic regression": make_pipeline(*prepare, LogisticRegression(max_iter=5000)),
        "random forest": make_pipeline(SimpleImputer(), forest),
    }
    if task == "classify":
        models["support vector machine"] = make_pipeline(*prepare, SVC())
    return models


class _Fit:
    """Fits ``model`` and answers, once it is called."""

    def __init__(self, model: Any, training: ExampleSet, test: ExampleSet) -> None:
        self._model, self._training, self._test = model, training, test

    def __call__(self) -> Answers:
        length = int(np.median(self._training.lengths))
        inputs, answers = _flatten(self._training, length)
        test_inputs, test_answers = _flatten(self._test, length)
        self._model.fit(inputs, answers[:, 0] if answers.shape[1] == 1 else answers)
        if self._training.task == "regress":
            return self._model.predict(test_inputs).reshape(test_answers.shape), test_answers
        if hasattr(self._model, "predict_proba"):
            given = self._model.predict_proba(test_inputs)
        else:
            given = np.eye(len(self._training.classes))[
                self._model.predict(test_inputs).astype(int)
            ]
        return given, test_answers[:, 0]


def _flatten(items: ExampleSet, length: int) -> tuple[Floats, Floats]:
    """Return inputs ``(count, size)`` and answers ``(count, num_answers)``."""
    if items.task == "tag":
        windows = np.concatenate([_windows(example) for example in items.examples])
        tags = np.concatenate([example.answer for example in items.examples])
        return windows, tags.astype(np.float64)[:, None]
    inputs = np.stack([_resample(example.values, length).ravel() for example in items.examples])
    answers = np.stack([np.atleast_1d(example.answer) for example in items.examples])
    return inputs, answers.astype(np.float64)


def _windows(example: Example) -> Floats:
    """Return the steps around each step, those past the ends missing."""
    padded = np.pad(example.values, ((_REACH, _REACH), (0, 0)), constant_values=np.nan)
    return np.stack([padded[s : s + 2 * _REACH + 1].ravel() for s in range(len(example.values))])


def _resample(values: Floats, length: int) -> Floats:
    """Return ``values`` stretched to ``length`` steps."""
    places = np.linspace(0, len(values) - 1, length)
    steps = np.arange(len(values))
    return np.stack([np.interp(places, steps, column) for column in values.T], 1)


def _answer_nearest(training: ExampleSet, test: ExampleSet) -> Answers:
    mean = np.vstack([example.values for example in training.examples]).mean(0)
    std = np.vstack([example.values for example in training.examples]).std(0)
    known = [(example.values - mean) / std for example in training.examples]
    classes = np.array([int(example.answer) for example in training.examples])
    nearest = [
        int(np.argmin([warping_distance((e.values - mean) / std, one) for one in known]))
        for e in test.examples
    ]
    true = np.array([float(example.answer) for example in test.examples])
    return np.eye(len(training.classes))[classes[nearest]], true


def warping_distance(left: Floats, right: Floats) -> float:
    """Return the distance by dynamic time warping of ``(time, num_features)``, without a band.

    The cost of a pair of steps is their squared distance over all features (Sakoe and Chiba 1978;
    for several features, Shokoohi-Yekta et al. 2017, the dependent kind). Along an anti-diagonal
    nothing depends on each other.
    """
    costs = ((left[:, None] - right) ** 2).sum(-1)
    rows, columns = costs.shape
    flipped = costs[:, ::-1]
    older = newer = np.full(rows + 1, np.inf)
    for diagonal in range(rows + columns - 1):
        along = np.full(rows + 1, np.inf)
        first, stop = max(0, diagonal - columns + 1), min(diagonal + 1, rows)
        cost = flipped.diagonal(columns - 1 - diagonal)
        before = np.minimum(np.minimum(newer[first:stop], newer[first + 1 : stop + 1]),
                            older[first:stop])  # fmt: skip
        along[first + 1 : stop + 1] = cost + (0.0 if diagonal == 0 else before)
        older, newer = newer, along
    return float(newer[rows])
