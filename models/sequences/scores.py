"""How good answers are, beside those of the simplest baseline."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from app.errors import InvalidInputError
from models.sequences.calibration import calibration_error, log_loss
from models.sequences.examples import ExampleSet
from models.sequences.network import SequenceNetwork
from models.sequences.training import list_batches

COMMONEST, MEAN = "commonest class of the training data", "mean of the training data"

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure and the same of the baseline, None where it has none.

    Attributes:
        name: What was measured, with its unit or the column.
        value: That of the model.
        baseline: That of the baseline.
    """

    name: str
    value: float
    baseline: float | None


def answer_examples(network: SequenceNetwork, items: ExampleSet) -> tuple[Floats, Floats]:
    """Return what ``network`` answers to all of ``items``, and what is true.

    Returns:
        Probabilities ``(count, num_classes)`` and numbers of classes ``(count,)``, of tagged steps
        where the task is to tag; to regress, values and truth ``(count, num_targets)``.
    """
    given, true = [], []
    device = network.temperature.device
    with torch.inference_mode():
        for batch in list_batches(items):
            answers = network({name: tensor.to(device) for name, tensor in batch.items()})
            answer = next(iter(answers.values())).cpu().double().numpy()
            wanted = batch["answer"].numpy().astype(np.float64)
            if items.task == "tag":
                is_known = wanted >= 0
                answer, wanted = answer[is_known], wanted[is_known]
            given.append(answer)
            true.append(wanted)
    return np.concatenate(given), np.concatenate(true)


def class_shares(items: ExampleSet) -> Floats:
    """Return the share of each class among the answers ``(num_classes,)``."""
    answers = np.concatenate([example.answer.reshape(-1) for example in items.examples])
    counts = np.bincount(answers[answers >= 0].astype(int), minlength=len(items.classes))
    shares: Floats = counts / max(counts.sum(), 1)
    return shares


def measure(network: SequenceNetwork, items: ExampleSet, baseline: Floats) -> tuple[Measure, ...]:
    """Score the answers of ``network`` to ``items``.

    Args:
        network: In evaluation mode.
        items: Of its task, features and classes.
        baseline: What to answer without reading: ``class_shares`` of the training data, or the mean
            of their targets ``(num_targets,)``.

    Raises:
        InvalidInputError: No step of ``items`` has a tag.
    """
    if not items.num_answered:
        raise InvalidInputError("no step has a tag to score the answers by")
    given, true = answer_examples(network, items)
    constant = np.broadcast_to(baseline, given.shape)
    if items.task == "regress":
        return measure_numbers(items.targets, given, true, constant)
    return measure_classes(given, true.astype(np.int64), constant)


def measure_numbers(
    targets: tuple[str, ...], given: Floats, true: Floats, baseline: Floats
) -> tuple[Measure, ...]:
    """Return the root of the mean squared error and the mean absolute error of each target."""
    measures = []
    for number, name in enumerate(targets):
        errors = [answer[:, number] - true[:, number] for answer in (given, baseline)]
        rmse, rmse_baseline = (float(np.sqrt((error**2).mean())) for error in errors)
        mae, mae_baseline = (float(np.abs(error).mean()) for error in errors)
        measures.append(Measure(f"RMSE {name}", rmse, rmse_baseline))
        measures.append(Measure(f"MAE {name}", mae, mae_baseline))
    return tuple(measures)


def measure_classes(
    given: Floats, true: NDArray[np.int64], baseline: Floats
) -> tuple[Measure, ...]:
    """Return accuracy, F1, cross-entropy and calibration of probabilities."""
    num_classes = given.shape[-1]
    accuracy, accuracy_baseline = (
        float((answer.argmax(-1) == true).mean()) for answer in (given, baseline)
    )
    f1, f1_baseline = (
        mean_f1(answer.argmax(-1), true, num_classes) for answer in (given, baseline)
    )
    return (
        Measure("accuracy", accuracy, accuracy_baseline),
        Measure("mean F1 of the classes", f1, f1_baseline),
        Measure("log loss", log_loss(given, true), log_loss(baseline, true)),
        Measure("expected calibration error", calibration_error(given, true), None),
    )


def mean_f1(given: NDArray[np.int64], true: NDArray[np.int64], num_classes: int) -> float:
    """Return the mean, over the classes that are given or true, of ``2 hits / (given + true)``."""
    hits = np.bincount(true[given == true], minlength=num_classes)
    totals = np.bincount(given, minlength=num_classes) + np.bincount(true, minlength=num_classes)
    there = totals > 0
    return float((2 * hits[there] / totals[there]).mean())
