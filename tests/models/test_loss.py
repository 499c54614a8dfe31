import pytest
import torch

from models.loss import quantile_losses, series_mean, steps_ahead, target_mask
from models.network import StepForecasts


def test_steps_ahead_are_those_after_the_origin() -> None:
    values = torch.tensor([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]])
    found = steps_ahead(values, torch.tensor([[0, 3], [1, 2]]), 2)
    assert found.tolist() == [[[1, 2], [4, 4]], [[7, 8], [8, 9]]]


def test_missing_and_held_back_targets_do_not_count() -> None:
    observed = torch.tensor([[True, True, False, True, True]])
    mask = target_mask(observed, torch.tensor([[0, 2]]), limits=torch.tensor([4]), horizon=3)
    assert mask.tolist() == [[[True, False, True], [True, False, False]]]


def test_quantile_losses_equal_hand_computed_ones() -> None:
    forecasts = StepForecasts(
        quantiles=torch.tensor([[[[-1.0, 0.5]]]]),  # in units of 2 from 3: quantiles 1 and 4
        base=torch.tensor([[[3.0]]], dtype=torch.float64),
        scale=torch.tensor([[2.0]]),
        floor=torch.tensor([[1e-12]], dtype=torch.float64),
        transformed=torch.tensor([[0.0, 5.0]], dtype=torch.float64),
        observed=torch.tensor([[True, True]]),
    )
    losses = quantile_losses(forecasts, torch.tensor([[0]]), torch.tensor([0.1, 0.9]))
    # The target 5 is 1 unit from the base: errors 2 and 0.5.
    assert losses.item() == pytest.approx((0.1 * 2 + 0.9 * 0.5) / 2)


def test_series_weigh_their_weight_however_long() -> None:
    losses = torch.tensor([[[1.0, 1.0]], [[3.0, 100.0]]])
    mask = torch.tensor([[[True, True]], [[True, False]]])
    mean = series_mean(losses, mask, torch.tensor([0.5, 1.5]))
    assert mean.item() == pytest.approx((0.5 * 1 + 1.5 * 3) / 2)


def test_series_without_targets_adds_nothing() -> None:
    losses = torch.tensor([[[torch.nan]], [[2.0]]])
    mask = torch.tensor([[[False]], [[True]]])
    assert series_mean(losses, mask, torch.ones(2)).item() == 1.0
