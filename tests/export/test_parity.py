import itertools
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from export.card import run_network
from export.publish import to_artifact
from export.samples import make_samples
from export.structure import count_recurrent_faults, load_graph
from export.verify import verify
from models.defaults import choose_config, choose_options
from models.series import Series, SeriesSet
from tests.export.exported import RELATIVE_LIMIT, Exported, export_tiny, largest_error
from tests.tiny_artifact import COVARIATES, WITH_COVARIATES, tiny_checkpoint

_NUMBERS = {
    "past_covariates": ("price",),
    "future_covariates": ("holiday", "promotion"),
    "static_covariates": ("size",),
}
_RECIPE = {"anchor_share": 0.6, "width": 0.9, "level_smoothing": 0.2}
_LENGTHS = [64, 1, 17, 40, 2, 33, 12, 64]

# Every pair of values of two choices occurs, since an export takes seconds.
_PAIRWISE = [
    ("lstm", 2, "log", 12, {}),
    ("gru", 1, "identity", 4, _NUMBERS),
    ("lstm", 3, "identity", 1, _NUMBERS),
    ("gru", 2, "log", 1, {}),
    ("lstm", 1, "log", 4, COVARIATES),
    ("gru", 3, "identity", 12, {}),
    ("lstm", 2, "both", 4, _NUMBERS | {"num_members": 3} | _RECIPE),
]
_RECIPES = {
    "yearly": ("Y", 1),
    "quarterly": ("Q", 4),
    "daily": ("D", 7),
    "monthly": ("M", 12),
    "hours of a day": ("h", 24),
    "weekly": ("W", 52),
    "hours of a week": ("h", 168),
}
_ALL = [
    case
    for case in itertools.product(
        ["lstm", "gru"], [1, 2, 3], ["log", "identity"], [1, 4, 12], [{}, _NUMBERS, COVARIATES]
    )
    if case not in _PAIRWISE
]


def _name(case: tuple[Any, ...]) -> str:
    cell, num_layers, transform, season, rest = case
    return f"{cell}-{num_layers}-{transform}-{season}-{'-'.join(rest) or 'alone'}"


@pytest.fixture(scope="module", params=_PAIRWISE, ids=_name)
def case(request: pytest.FixtureRequest) -> Exported:
    return _export(request.param)


def _export(choices: tuple[Any, ...]) -> Exported:
    cell, num_layers, transform, season, rest = choices
    if choices == _PAIRWISE[0]:
        return export_tiny()
    return export_tiny(cell=cell, num_layers=num_layers, transform=transform, season=season, **rest)


def test_ragged_series_with_gaps_give_the_numbers_of_pytorch(case: Exported) -> None:
    inputs = make_samples(case.engine.card, _LENGTHS, seed=1)

    error = largest_error(case.run(inputs), run_network(case.checkpoint.network, inputs))

    assert error < RELATIVE_LIMIT


def test_carried_states_give_the_numbers_of_pytorch(case: Exported) -> None:
    before = make_samples(case.engine.card, _LENGTHS, seed=2)
    states = case.carry(run_network(case.checkpoint.network, before))
    inputs = make_samples(case.engine.card, _LENGTHS[::-1], seed=3) | states

    error = largest_error(case.run(inputs), run_network(case.checkpoint.network, inputs))

    assert error < RELATIVE_LIMIT


def test_one_step_of_one_series_gives_the_numbers_of_pytorch(case: Exported) -> None:
    inputs = make_samples(case.engine.card, [1], seed=4)

    error = largest_error(case.run(inputs), run_network(case.checkpoint.network, inputs))

    assert error < RELATIVE_LIMIT


def test_series_without_a_value_give_the_numbers_of_pytorch(case: Exported) -> None:
    inputs = make_samples(case.engine.card, [1, 5], seed=5)
    inputs["past_target"][:] = np.nan

    error = largest_error(case.run(inputs), run_network(case.checkpoint.network, inputs))

    assert error < RELATIVE_LIMIT


def test_golden_case_holds(case: Exported) -> None:
    case.engine.check_golden_case()


def test_every_layer_is_one_recurrent_node(case: Exported) -> None:
    assert count_recurrent_faults(load_graph(case.model), case.engine.card) == 0


@pytest.mark.slow
@pytest.mark.parametrize("choices", _ALL, ids=_name)
def test_every_combination_gives_the_numbers_of_pytorch(choices: tuple[Any, ...]) -> None:
    exported = _export(choices)
    inputs = make_samples(exported.engine.card, _LENGTHS, seed=1)

    got = exported.run(inputs)

    assert largest_error(got, run_network(exported.checkpoint.network, inputs)) < RELATIVE_LIMIT


def test_artifact_with_every_kind_of_covariate_is_proven() -> None:
    exported = export_tiny(**WITH_COVARIATES)
    verification = verify(exported.model, exported.checkpoint)
    assert not verification.failures
    assert exported.engine.card.static_categories == {"region": ("north", "south")}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize(("freq", "season"), _RECIPES.values(), ids=_RECIPES)
def test_recipe_of_every_frequency_is_proven(freq: str, season: int, cell: str) -> None:
    items = SeriesSet((Series("one", np.ones(3 * season)),), freq, season)
    options = choose_options(items, wanted={})
    length = options.context_length
    config = choose_config(items, horizon=12, context_length=length, wanted={"cell": cell})
    checkpoint = tiny_checkpoint(context_length=length, **asdict(config))
    verification = verify(to_artifact(checkpoint), checkpoint)
    assert not verification.failures
