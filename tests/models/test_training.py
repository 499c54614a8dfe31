from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from app.errors import InvalidInputError
from models.backtest import forecast_windows, rolling_windows
from models.checkpoint import load_checkpoint
from models.config import NetworkConfig
from models.fitting import Place, fit_forecaster
from models.forecaster import Forecaster
from models.metrics import EVALUATION_LEVELS
from models.run import Plan, clear_directory, prepare_directory, train_forecaster
from models.series import Series, SeriesSet
from models.training import TrainingOptions

MEDIAN = EVALUATION_LEVELS.index(0.5)


def fit(
    items: SeriesSet, config: NetworkConfig, options: TrainingOptions, directory: Path
) -> Forecaster:
    return fit_forecaster(
        items, config, options=options, place=Place(directory, Console(quiet=True))
    ).network


def assert_same_weights(one: Forecaster, other: Forecaster) -> None:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def head_of(network: Forecaster) -> Tensor:
    return network.get_parameter("members.0.head.outputs.weight")


def test_network_learns_a_sine(tmp_path: Path) -> None:
    steps = np.arange(120)
    # Nothing but the window can tell the period of 10: the season is not told.
    series = Series("sine", 50 + 20 * np.sin(2 * np.pi * steps / 10))
    items = SeriesSet((series,), None, season=1)
    config = NetworkConfig(horizon=5, window=12, hidden_size=16, num_layers=1, dropout=0.0)
    options = TrainingOptions(max_steps=250, batch_size=1, learning_rate=1e-2, steps_per_check=125)
    network = fit(items, config, options, tmp_path)
    windows = rolling_windows(items, horizon=5, num_windows=2)
    forecast = forecast_windows(network, windows, context_length=120)[..., MEDIAN]
    actual = np.stack([series.target[w.origin : w.origin + 5] for w in windows])
    assert np.abs(forecast - actual).mean() < 1.0  # of an amplitude of 20


def test_training_is_reproducible(
    waves: SeriesSet, tiny_config: NetworkConfig, short_training: TrainingOptions, tmp_path: Path
) -> None:
    one = fit(waves, tiny_config, short_training, tmp_path / "one")
    other = fit(waves, tiny_config, short_training, tmp_path / "other")
    assert_same_weights(one, other)


def test_measuring_the_width_changes_nothing_else(
    waves: SeriesSet, tiny_config: NetworkConfig, short_training: TrainingOptions, tmp_path: Path
) -> None:
    narrow = replace(tiny_config, width=0.1)
    plain = fit(waves, narrow, replace(short_training, fixed_steps=True), tmp_path / "plain")
    options = replace(short_training, fixed_steps=True, calibration_windows=2)
    measured = fit(waves, narrow, options, tmp_path / "measured")
    assert_same_weights(plain, measured)
    assert plain.config.width == 0.1 < measured.config.width
    assert {m.config.width for m in measured.list_members()} == {measured.config.width}


def test_finished_fits_are_not_repeated(
    waves: SeriesSet, tiny_config: NetworkConfig, short_training: TrainingOptions, tmp_path: Path
) -> None:
    first = fit(waves, tiny_config, short_training, tmp_path)
    written = (tmp_path / "search-log.ckpt").stat().st_mtime_ns
    assert_same_weights(first, fit(waves, tiny_config, short_training, tmp_path))
    assert (tmp_path / "search-log.ckpt").stat().st_mtime_ns == written


def test_long_series_are_forecast_from_some_of_their_steps(
    waves: SeriesSet, tiny_config: NetworkConfig, short_training: TrainingOptions, tmp_path: Path
) -> None:
    options = replace(short_training, max_origins=5)
    one = fit(waves, tiny_config, options, tmp_path / "one")
    assert_same_weights(one, fit(waves, tiny_config, options, tmp_path / "other"))
    every = fit(waves, tiny_config, short_training, tmp_path / "every")
    assert not torch.equal(head_of(one), head_of(every))


def test_another_seed_gives_other_weights(
    waves: SeriesSet, tiny_config: NetworkConfig, short_training: TrainingOptions, tmp_path: Path
) -> None:
    one = fit(waves, tiny_config, short_training, tmp_path / "one")
    other = fit(waves, tiny_config, replace(short_training, seed=2), tmp_path / "other")
    assert not torch.equal(head_of(one), head_of(other))


def test_series_too_short_to_hold_back_are_learned_from(tmp_path: Path) -> None:
    items = SeriesSet((Series("a", np.arange(5.0)), Series("b", np.arange(6.0))), None, 1)
    config = NetworkConfig(horizon=4, window=4, hidden_size=4, num_layers=1)
    options = TrainingOptions(max_steps=4, batch_size=2, steps_per_check=2)
    fitted = fit_forecaster(
        items, config, options=options, place=Place(tmp_path, Console(quiet=True))
    )
    assert fitted.num_steps == (4,)
    assert [check.validation_loss for check in fitted.checks] == [None, None]


def test_fixed_steps_hold_nothing_back(
    waves: SeriesSet, tiny_config: NetworkConfig, short_training: TrainingOptions, tmp_path: Path
) -> None:
    options = replace(short_training, fixed_steps=True)
    fitted = fit_forecaster(
        waves, tiny_config, options=options, place=Place(tmp_path, Console(quiet=True))
    )
    assert fitted.num_steps == (12,)
    assert all(check.validation_loss is None for check in fitted.checks)


def test_training_stops_when_held_back_windows_stop_improving(
    waves: SeriesSet, tiny_config: NetworkConfig, tmp_path: Path
) -> None:
    # At such a rate nothing improves.
    options = TrainingOptions(
        max_steps=300, batch_size=2, steps_per_check=1, patience=3, learning_rate=1e-12
    )
    fitted = fit_forecaster(
        waves, tiny_config, options=options, place=Place(tmp_path, Console(quiet=True))
    )
    assert len(fitted.checks) < 10


def test_diverged_training_is_refused(
    waves: SeriesSet, tiny_config: NetworkConfig, tmp_path: Path
) -> None:
    options = TrainingOptions(
        max_steps=40, batch_size=2, steps_per_check=20, learning_rate=1e38, weight_decay=1.0
    )
    with pytest.raises(InvalidInputError, match="diverged"):
        fit(waves, tiny_config, options, tmp_path)


def test_missing_values_and_covariates_are_learned_from(
    waves: SeriesSet, tiny_config: NetworkConfig, short_training: TrainingOptions, tmp_path: Path
) -> None:
    random = np.random.default_rng(1)
    series = tuple(
        replace(
            item,
            target=np.where(random.random(len(item.target)) < 0.2, np.nan, item.target),
            past_covariates=random.normal(50, 5, (len(item.target), 2)),
            future_covariates=random.normal(size=(len(item.target) + 3, 1)),
            static_covariates=np.array([float(len(item.target)), np.nan]),
        )
        for item in waves.series
    )
    items = replace(
        waves,
        series=series,
        past_covariates=("p", "q"),
        future_covariates=("f",),
        static_covariates=("s", "t"),
    )
    config = replace(
        tiny_config,
        past_covariates=("p", "q"),
        future_covariates=("f",),
        static_covariates=("s", "t"),
    )
    network = fit(items, config, short_training, tmp_path)
    assert all(value.isfinite().all() for value in network.state_dict().values())
    torch.testing.assert_close(
        network.get_buffer("members.0.past_mean"), torch.full((2,), 50.0), rtol=0.1, atol=0.0
    )


def test_directory_with_a_forecaster_is_not_overwritten(
    waves: SeriesSet, tiny_config: NetworkConfig, short_training: TrainingOptions, tmp_path: Path
) -> None:
    plan = Plan(waves, tiny_config, short_training, "a test")
    assert not prepare_directory(plan, tmp_path)
    trained = train_forecaster(plan, tmp_path, Console(quiet=True))
    assert_same_weights(trained.network, load_checkpoint(tmp_path).network)
    assert trained.training.data_digest == waves.digest
    assert (tmp_path / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InvalidInputError, match="--overwrite replaces it"):
        prepare_directory(plan, tmp_path)
    clear_directory(tmp_path)
    assert not prepare_directory(plan, tmp_path)


def test_directory_with_a_model_of_sequences_is_left_alone(
    waves: SeriesSet, tiny_config: NetworkConfig, short_training: TrainingOptions, tmp_path: Path
) -> None:
    (tmp_path / "sequences.json").write_text("{}")
    with pytest.raises(InvalidInputError, match="another --output"):
        prepare_directory(Plan(waves, tiny_config, short_training), tmp_path)


def test_unfinished_work_of_another_plan_is_refused(
    waves: SeriesSet, tiny_config: NetworkConfig, short_training: TrainingOptions, tmp_path: Path
) -> None:
    prepare_directory(Plan(waves, tiny_config, short_training), tmp_path)
    other = Plan(waves, tiny_config, replace(short_training, seed=2))
    with pytest.raises(InvalidInputError, match="--overwrite begins anew"):
        prepare_directory(other, tmp_path)
