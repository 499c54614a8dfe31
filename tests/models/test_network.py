from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from app.tensors import LARGEST_MAGNITUDE
from models.anchor import DAMPING, SHRINKAGE
from models.config import NetworkConfig, Transform
from models.features import CausalFeatures
from models.forecaster import Forecaster
from models.recurrent import Cell

CONFIG = NetworkConfig(horizon=5, season=4, window=6, hidden_size=8, num_layers=2)
ANCHORED = replace(CONFIG, season=1, anchor_share=1.0)
MEDIAN = CONFIG.quantile_levels.index(0.5)
ROUNDING = 1e-5  # float32 through two recurrent layers
TIME = 60


def random_values(seed: int, *, rows: int = 3, time: int = TIME) -> Tensor:
    random = np.random.default_rng(seed)
    season = 10 * np.sin(np.arange(time) * np.pi / 2)
    values = 100 + season + random.normal(0, 5, (rows, time)).cumsum(1)
    values[random.random((rows, time)) < 0.1] = np.nan
    return torch.tensor(values, dtype=torch.float32)


def make_network(config: NetworkConfig, seed: int = 0) -> Forecaster:
    torch.manual_seed(seed)
    network = Forecaster(config).eval()
    for name, parameter in network.named_parameters():
        if name.endswith("head.outputs.weight"):
            torch.nn.init.normal_(parameter, std=0.3)
    return network


@torch.no_grad()
def run(
    network: Forecaster, values: Tensor, state: dict[str, Tensor] | None = None
) -> dict[str, Tensor]:
    lengths = torch.full((len(values),), values.shape[1], dtype=torch.int32)
    state = network.initial_state(len(values)) if state is None else state
    inputs = {"past_target": values, "sequence_lens": lengths} | state
    outputs: dict[str, Tensor] = network(inputs)
    return outputs


def next_state(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix("next_"): value
        for name, value in outputs.items()
        if name.startswith("next_")
    }


def assert_close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("season", [1, 3, 4, 12])
@pytest.mark.parametrize("cut", [1, 7, TIME - 1])
def test_carried_state_equals_the_full_history(cell: Cell, season: int, cut: int) -> None:
    network = make_network(replace(CONFIG, cell=cell, season=season))
    values = random_values(season)
    carried = run(network, values[:, cut:], next_state(run(network, values[:, :cut])))
    assert_close(carried["quantiles"], run(network, values)["quantiles"])


@pytest.mark.parametrize(("transform", "offset"), [("identity", -120), ("both", 0)])
def test_carried_state_holds_on_other_axes(transform: Transform, offset: float) -> None:
    network = make_network(replace(CONFIG, transform=transform, num_members=3))
    values = random_values(1) + offset
    carried = run(network, values[:, 30:], next_state(run(network, values[:, :30])))
    assert_close(carried["quantiles"], run(network, values)["quantiles"])


@pytest.mark.parametrize("transform", ["log", "identity"])
@pytest.mark.parametrize("season", [1, 4])
def test_carried_state_holds_with_an_anchor(transform: Transform, season: int) -> None:
    network = make_network(replace(ANCHORED, transform=transform, season=season, anchor_share=0.6))
    values = random_values(season)
    carried = run(network, values[:, 9:], next_state(run(network, values[:, :9])))
    assert_close(carried["quantiles"], run(network, values)["quantiles"])


@pytest.mark.parametrize("transform", ["log", "identity"])
def test_carried_state_holds_with_a_smoothed_level(transform: Transform) -> None:
    network = make_network(replace(CONFIG, transform=transform, level_smoothing=0.2))
    values = random_values(8)
    carried = run(network, values[:, 9:], next_state(run(network, values[:, :9])))
    assert_close(carried["quantiles"], run(network, values)["quantiles"])


def test_smoothed_level_is_the_weighted_mean_of_the_window() -> None:
    config = replace(CONFIG, season=1, transform="identity", level_smoothing=0.5)
    features, values = CausalFeatures(config), random_values(9).nan_to_num(100.0)
    states = features.initial_state(3).values()
    level = features(values, torch.full((3,), TIME, dtype=torch.int32), *states).level[:, -1]
    weights = 0.5 ** torch.arange(CONFIG.window)
    newest_first = values.flip(1)[:, : CONFIG.window]
    assert_close(level.float(), (newest_first * weights).sum(1) / weights.sum())


def test_anchor_follows_the_shrunken_part_of_a_straight_line() -> None:
    network = make_network(replace(ANCHORED, transform="identity", anchor_smoothing=1.0))
    slope, num_changes = 3.0, TIME - 1
    median = run(network, slope * torch.arange(float(TIME))[None])["quantiles"][0, :, MEDIAN]
    share = DAMPING["identity"] * num_changes / (num_changes + SHRINKAGE)
    assert_close(median, slope * (num_changes + share * torch.arange(1.0, 6.0)))


def test_anchor_of_logarithms_follows_part_of_the_growth() -> None:
    network = make_network(replace(ANCHORED, anchor_smoothing=1.0))
    growth, num_changes = 0.02, TIME - 1
    median = run(network, torch.exp(growth * torch.arange(float(TIME)))[None])["quantiles"]
    share = DAMPING["log"] * num_changes / (num_changes + SHRINKAGE)
    want = torch.exp(growth * (num_changes + share * torch.arange(1.0, 6.0)))
    assert_close(median[0, :, MEDIAN], want)


def test_anchor_starts_from_the_smoothed_level() -> None:
    network = make_network(replace(ANCHORED, transform="identity", anchor_smoothing=0.5))
    values = torch.full((1, TIME), 10.0)
    values[0, -1] = 26.0
    weights = 0.5 ** torch.arange(ANCHORED.window)
    level = 10 + 16 / weights.sum()
    trend = DAMPING["identity"] * 16 / (TIME - 1 + SHRINKAGE)
    age = (weights * torch.arange(ANCHORED.window)).sum() / weights.sum()
    median = run(network, values)["quantiles"][0, :, MEDIAN]
    assert_close(median, level + trend * (age + torch.arange(1.0, 6.0)))


def test_network_learns_without_its_anchor() -> None:
    inputs = {"past_target": random_values(6), "sequence_lens": torch.full((3,), TIME)}
    origins = torch.tensor([[20, 41]]).expand(3, -1)
    config = replace(CONFIG, dropout=0.0)
    plain, anchored = (
        make_network(each).train().list_members()[0].forecast_steps(inputs, origins).quantiles
        for each in (config, replace(config, anchor_share=0.5, width=0.8))
    )
    assert torch.equal(plain, anchored)


def test_width_scales_the_distances_from_the_median() -> None:
    values = random_values(7)
    config = replace(CONFIG, transform="identity")
    own, narrow = (
        run(make_network(each), values)["quantiles"]
        for each in (config, replace(config, width=0.5))
    )
    assert_close(narrow[..., MEDIAN], own[..., MEDIAN])
    assert_close(2 * (narrow - own[..., MEDIAN, None]), own - own[..., MEDIAN, None])


def test_ragged_batch_equals_single_rows() -> None:
    network, values = make_network(CONFIG), random_values(2)
    lengths = torch.tensor([TIME, 17, 1], dtype=torch.int32)
    values[2, 0] = 5.0
    inputs = {"past_target": values, "sequence_lens": lengths} | network.initial_state(3)
    together = network(inputs)["quantiles"]
    for row, length in enumerate(lengths.tolist()):
        assert_close(run(network, values[row : row + 1, :length])["quantiles"][0], together[row])


def test_every_step_forecasts_what_a_shorter_history_would() -> None:
    network, values = make_network(CONFIG), random_values(3)
    inputs = {"past_target": values, "sequence_lens": torch.full((3,), TIME)}
    origins = torch.tensor([[20, 41]]).expand(3, -1)
    quantiles = network.forecast_origins(inputs, origins)
    for place, origin in enumerate((20, 41)):
        alone = run(network, values[:, : origin + 1])["quantiles"]
        assert_close(quantiles[:, place].float(), alone)


@pytest.mark.parametrize("transform", ["log", "identity"])
def test_later_value_changes_nothing_before_it(transform: Transform) -> None:
    features = CausalFeatures(replace(CONFIG, transform=transform))
    values = random_values(4)
    changed = values.clone()
    changed[:, 40:] *= 3
    lengths = torch.full((3,), TIME, dtype=torch.int32)
    inputs = {"sequence_lens": lengths} | features.initial_state(3)
    names = ("past_target", "sequence_lens", "recent_target", "running_sums")
    one, other = (
        features(*((inputs | {"past_target": each})[name] for name in names))
        for each in (values, changed)
    )
    assert torch.equal(one.inputs[:, :40], other.inputs[:, :40])
    assert not torch.equal(one.inputs[:, 40:], other.inputs[:, 40:])


def test_logarithms_at_the_floor_are_zeros() -> None:
    floor = torch.tensor(0.5, dtype=torch.float64)
    values = torch.tensor([0.0, 0.4, 0.5, 0.75, 1.0, 1.5, 80.0], dtype=torch.float64)
    restored = CausalFeatures(CONFIG).restore(values.log(), floor)
    assert_close(restored.float(), torch.tensor([0.0, 0.0, 0.0, 0.5, 1.0, 1.5, 80.0]))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    scale=st.sampled_from([1e-6, 1.0, 1e9]),
    values=st.lists(
        st.one_of(st.floats(-1e6, 1e6, width=32), st.just(float("nan"))), min_size=1, max_size=30
    ),
)
def test_quantiles_are_finite_and_never_cross(seed: int, scale: float, values: list[float]) -> None:
    network = make_network(replace(CONFIG, transform="identity"), seed)
    quantiles = run(network, torch.tensor([values]) * scale)["quantiles"]
    assert quantiles.isfinite().all()
    assert (quantiles.diff(dim=-1) >= 0).all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    values=st.lists(
        st.one_of(st.floats(0, 2**100, width=32), st.just(float("nan"))), min_size=1, max_size=30
    ),
)
def test_forecasts_of_values_that_are_not_negative_are_positive(
    seed: int, values: list[float]
) -> None:
    quantiles = run(make_network(CONFIG, seed), torch.tensor([values]))["quantiles"]
    assert quantiles.isfinite().all()
    assert (quantiles >= 0).all()


def test_no_quantile_is_far_beyond_the_recent_values() -> None:
    network = make_network(CONFIG)
    for name, parameter in network.named_parameters():
        if name.endswith("head.outputs.bias"):
            torch.nn.init.constant_(parameter, 30.0)
    quantiles = run(network, torch.tensor([[7000.0] * 20 + [100.0]]))["quantiles"]
    # The season may add to the factor of exp(2).
    assert float(quantiles.max()) < 10 * 7000


def test_untrained_forecast_continues_the_season() -> None:
    torch.manual_seed(0)
    network = Forecaster(replace(CONFIG, horizon=8)).eval()
    pattern = torch.tensor([50.0, 100.0, 150.0, 100.0])
    quantiles = run(network, pattern.repeat(8)[None])["quantiles"]
    median = quantiles[0, :, CONFIG.quantile_levels.index(0.5)]
    torch.testing.assert_close(median, pattern.repeat(2), rtol=0.1, atol=0.0)


@pytest.mark.parametrize("factor", [1e-9, 1000.0, 1e9])
@pytest.mark.parametrize("transform", ["log", "identity", "both"])
def test_forecast_follows_the_unit_of_the_target(transform: Transform, factor: float) -> None:
    network = make_network(replace(CONFIG, transform=transform, num_members=2))
    values = random_values(5)
    one, other = run(network, values)["quantiles"], run(network, values * factor)["quantiles"]
    size = float(one.abs().max())
    torch.testing.assert_close(other / factor, one, rtol=1e-4, atol=1e-5 * size)


def test_forecast_is_the_mean_of_the_members() -> None:
    together = make_network(replace(CONFIG, transform="both", num_members=4))
    values = random_values(7)
    alone = [
        run(Forecaster.from_members(member.config, [member]), values)["quantiles"]
        for member in together.list_members()
    ]
    assert_close(run(together, values)["quantiles"], torch.stack(alone).mean(0))


def test_members_work_on_the_axes_in_turn() -> None:
    config = replace(CONFIG, transform="both", num_members=3)
    assert [member.transform for member in config.members] == ["log", "identity", "log"]


@pytest.mark.parametrize(
    "values",
    [[5.0], [5.0, 5.0], [7.0] * 30, [0.0] * 30, [0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 9.0, 0.0] * 4],
    ids=["one value", "two values", "constant", "zeros", "intermittent"],
)
def test_forecast_of_a_poor_history_is_finite_and_not_negative(values: list[float]) -> None:
    config = replace(CONFIG, transform="both", num_members=2, is_nonnegative=True)
    quantiles = run(make_network(config), torch.tensor([values]))["quantiles"]
    assert quantiles.isfinite().all()
    assert (quantiles >= 0).all()
    assert (quantiles.diff(dim=-1) >= 0).all()


def test_covariates_change_the_forecast_and_may_be_missing() -> None:
    config = replace(
        CONFIG, past_covariates=("p",), future_covariates=("f",), static_covariates=("s",)
    )
    network, values = make_network(config), random_values(6)
    covariates = {
        "past_covariates": torch.zeros((3, TIME, 1)),
        "future_covariates": torch.zeros((3, TIME + config.horizon, 1)),
        "static_covariates": torch.zeros((3, 1)),
    }
    state = network.initial_state(3) | covariates
    base = run(network, values, state)["quantiles"]
    for name, value in covariates.items():
        changed = run(network, values, state | {name: value + 1})["quantiles"]
        missing = run(network, values, state | {name: value * torch.nan})["quantiles"]
        assert not torch.equal(base, changed)
        assert torch.equal(base, missing)  # the mean, here 0, stands for a missing value


@pytest.mark.parametrize("transform", ["log", "identity"])
@pytest.mark.parametrize("season", [1, 12])
def test_largest_numbers_give_finite_forecasts(transform: Transform, season: int) -> None:
    network = make_network(replace(CONFIG, transform=transform, season=season))
    random = np.random.default_rng(0)
    values = random.choice([LARGEST_MAGNITUDE, 1.0, 1e-30, 0.0], (64, TIME))
    if transform == "identity":
        values *= random.choice([-1, 1], values.shape)
    outputs = run(network, torch.tensor(values, dtype=torch.float32))
    assert outputs["quantiles"].isfinite().all()
