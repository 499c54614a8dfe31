import numpy as np
import pytest

from models.sequences.calibration import calibration_error, fit_temperature, log_loss, softmax


def answers_of(logits: np.ndarray) -> np.ndarray:
    """Draw true classes that the logits tell the probabilities of."""
    random = np.random.default_rng(0)
    return np.array([random.choice(3, p=row) for row in softmax(logits)])


def test_temperature_undoes_exaggeration() -> None:
    logits = np.random.default_rng(1).normal(0, 2, (4000, 3))
    temperature = fit_temperature(3 * logits, answers_of(logits))
    assert temperature == pytest.approx(3, rel=0.1)


def test_temperature_improves_loss_and_calibration() -> None:
    logits = np.random.default_rng(1).normal(0, 2, (4000, 3))
    answers, sure = answers_of(logits), softmax(3 * logits)
    cooled = softmax(3 * logits / fit_temperature(3 * logits, answers))
    assert log_loss(cooled, answers) < log_loss(sure, answers)
    assert calibration_error(cooled, answers) < 0.05 < calibration_error(sure, answers)


def test_few_right_answers_leave_doubt() -> None:
    logits = np.eye(3)[[0, 1, 2, 0]] * 4
    assert 0.4 < fit_temperature(logits, np.array([0, 1, 2, 0])) < 1


def test_no_answers_leave_the_temperature() -> None:
    assert fit_temperature(np.empty((0, 3)), np.empty(0, np.int64)) == 1


def test_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.65, 0.35], [0.65, 0.35]])
    # Bins of 0.9 to 1 (half right) and 0.6 to 0.7 (all right), each with two of four answers.
    error = calibration_error(probabilities, np.array([0, 1, 0, 0]))
    assert error == pytest.approx((0.45 + 0.35) / 2)
