import numpy as np
import pytest

from models.metrics import EVALUATION_LEVELS
from models.scores import score, score_levels, score_steps

NUM_LEVELS = len(EVALUATION_LEVELS)


def test_perfect_forecast_scores_nothing() -> None:
    actual = np.array([[10.0, 20.0]])
    quantiles = np.repeat(actual[..., np.newaxis], NUM_LEVELS, axis=-1)
    scores = score(actual, quantiles, np.ones(1))
    assert (scores.mase, scores.smape, scores.scaled_quantile_loss) == (0.0, 0.0, 0.0)
    assert scores.coverage_80 == 1.0


def test_each_step_is_measured_for_itself() -> None:
    actual = np.array([[0.0, 3.0], [0.0, 5.0]])
    model, naive = np.zeros((2, 2, NUM_LEVELS)), np.full((2, 2, NUM_LEVELS), 2.0)
    first, second = score_steps(actual, model, naive, np.array([1.0, 2.0]))
    assert (first.step, first.mase, first.coverage_80) == (1, 0.0, 1.0)
    assert (second.step, second.mase, second.coverage_80) == (2, 2.75, 0.0)
    assert second.seasonal_naive_mase == pytest.approx((1 / 1 + 3 / 2) / 2)


def test_means_of_the_steps_are_the_whole() -> None:
    generator = np.random.default_rng(0)
    actual = generator.normal(size=(20, 5))
    quantiles = np.sort(generator.normal(size=(20, 5, NUM_LEVELS)), axis=-1)
    scales = generator.uniform(1, 2, 20)
    steps = score_steps(actual, quantiles, quantiles, scales)
    whole = score(actual, quantiles, scales)
    assert np.mean([step.mase for step in steps]) == pytest.approx(whole.mase)
    assert np.mean([step.coverage_80 for step in steps]) == pytest.approx(whole.coverage_80)


def test_calibrated_levels_have_their_share_below() -> None:
    actual = np.linspace(0, 1, 1001)[:-1, np.newaxis]
    quantiles = np.broadcast_to(np.array(EVALUATION_LEVELS), (1000, 1, NUM_LEVELS))
    for one in score_levels(actual, quantiles):
        assert one.share_below == pytest.approx(one.level, abs=0.002)


def test_missing_values_count_for_no_level() -> None:
    actual = np.array([[np.nan, 1.0]])
    assert {one.share_below for one in score_levels(actual, np.zeros((1, 2, NUM_LEVELS)))} == {0.0}
