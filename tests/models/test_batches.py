from dataclasses import replace

import numpy as np
import pytest
import torch

from models.batches import (
    Crop,
    Drawing,
    RandomBatches,
    TrainingPart,
    ValidationBatches,
    series_weights,
    stack_crops,
)
from models.loss import steps_ahead, target_mask
from models.series import Series, SeriesSet


def whole(items: SeriesSet) -> TrainingPart:
    lengths = tuple(len(item.target) for item in items.series)
    return TrainingPart(items, lengths, np.ones(len(lengths)))


def test_crops_are_padded_on_the_right() -> None:
    crops = [
        Crop(Series("a", np.arange(5.0)), 1, 4, 4),
        Crop(Series("b", np.arange(2.0)), 0, 2, 2, 0.5),
    ]
    batch = stack_crops(crops, horizon=3)
    np.testing.assert_array_equal(batch["past_target"], [[1, 2, 3], [0, 1, np.nan]])
    assert batch["sequence_lens"].tolist() == [3, 2]
    assert batch["limits"].tolist() == [3, 2]
    assert batch["weights"].tolist() == [1.0, 0.5]


def test_future_covariates_reach_the_horizon() -> None:
    series = Series("a", np.arange(4.0), future_covariates=np.arange(6.0)[:, np.newaxis])
    batch = stack_crops([Crop(series, 1, 4, 4)], horizon=3)
    np.testing.assert_array_equal(batch["future_covariates"][0, :, 0], [1, 2, 3, 4, 5, np.nan])


def test_batches_depend_on_seed_and_number_alone(waves: SeriesSet) -> None:
    one, same, other = (
        RandomBatches(whole(waves), Drawing(batch_size=3, crop_length=10, seed=seed), horizon=2)
        for seed in (1, 1, 2)
    )
    _ = one[0]
    torch.testing.assert_close(one[7], same[7])
    assert not torch.equal(one[7]["past_target"], other[7]["past_target"])


def test_long_series_are_cropped(waves: SeriesSet) -> None:
    batches = RandomBatches(whole(waves), Drawing(batch_size=50, crop_length=10, seed=1), horizon=2)
    assert batches[0]["past_target"].shape == (50, 12)


def test_nothing_is_learned_from_past_the_end_of_a_crop() -> None:
    horizon = 5
    items = SeriesSet((Series("a", np.arange(1000.0)),), None, 1)
    how = Drawing(batch_size=8, crop_length=20, seed=1)
    batch = RandomBatches(whole(items), how, horizon=horizon)[0]
    values = batch["past_target"]
    origins = torch.arange(values.shape[1]).expand(len(values), -1)
    counts = target_mask(~values.isnan(), origins, limits=batch["limits"], horizon=horizon)
    ahead = steps_ahead(values, origins, horizon) - values.unsqueeze(-1)
    expected = torch.arange(1.0, horizon + 1).expand_as(ahead)
    assert torch.equal(ahead[counts], expected[counts])
    assert counts[:, :20].all()  # every step of the crop itself has all its steps ahead


def test_training_never_sees_values_past_the_limit() -> None:
    series = Series("a", np.concatenate([np.ones(20), np.full(5, 999.0)]))
    part = TrainingPart(SeriesSet((series,), None, 1), (20,), np.ones(1))
    batches = RandomBatches(part, Drawing(batch_size=20, crop_length=8, seed=1), horizon=5)
    assert (batches[0]["past_target"] == 1).all()


def test_only_series_that_hold_back_are_validated(waves: SeriesSet) -> None:
    lengths = [len(item.target) for item in waves.series]
    part = replace(whole(waves), limits=(lengths[0] - 4, *lengths[1:]))
    batches = ValidationBatches(part, horizon=4, context_length=20)
    assert len(batches) == batches.num_rows == 1
    batch = batches[0]
    assert batch["past_target"].shape == (1, 24)
    assert batch["limits"].tolist() == [20]


def test_weights_turn_levels_into_scales_of_mase() -> None:
    calm = Series("calm", np.array([100.0, 101.0] * 5))
    wild = Series("wild", np.array([100.0, 110.0] * 5))
    items = SeriesSet((calm, wild), None, 1)
    weights = series_weights(items, is_log=True, mase_share=1.0)
    assert weights.mean() == pytest.approx(1.0)
    # The calm one's ratio of 100.5 is limited to 30; the wild one's is 105 / 10.
    assert weights[0] / weights[1] == pytest.approx(30 / 10.5)


def test_constant_series_has_a_finite_weight() -> None:
    items = SeriesSet((Series("a", np.ones(5)), Series("b", np.zeros(5))), None, 1)
    assert np.isfinite(series_weights(items, is_log=True, mase_share=1.0)).all()
