"""Why a training run is set up as it is, for the user to read and to overrule."""

from collections.abc import Container
from typing import NamedTuple

from models.config import NetworkConfig
from models.defaults import choose_recipe
from models.run import Plan
from models.training import TrainingOptions

_ASKED_FOR = "as asked for"


class Reason(NamedTuple):
    """One setting of a run, its value and why it has it."""

    setting: str
    value: str
    reason: str


def list_reasons(plan: Plan, wanted: Container[str]) -> list[Reason]:
    """Return the settings that matter most; ``wanted`` names those that the user gave."""
    about = _network_reasons(plan) if plan.start is None else _kept_reasons(plan)
    reasons = {**about, **_training_reasons(plan)}
    return [
        Reason(name.replace("_", " "), value, _ASKED_FOR if name in wanted else reason)
        for name, (value, reason) in reasons.items()
    ]


def _network_reasons(plan: Plan) -> dict[str, tuple[str, str]]:
    config, recipe = plan.config, choose_recipe(plan.config.season)
    seasons, steps = recipe.window
    parts = [f"{seasons} seasons"] * (seasons > 0) + [f"{steps} steps"] * (steps > 0)
    axis = (
        "some values are negative: networks on the numbers themselves"
        if plan.items.has_negative_values
        else "no value is negative: networks on logarithms and on values take turns"
    )
    recipe_for = f"recipe for a season of {config.season}, chosen on held-out data"
    return {
        "season": (str(config.season), _explain_season(config.season, plan.items.season)),
        "transform": (config.transform, axis),
        "cell": (config.cell, recipe_for),
        "window": (f"{config.window} values", f"{recipe_for}: {' and '.join(parts)}"),
        "num_members": (f"{config.num_members} networks", f"{recipe_for}; their mean errs less"),
        "input_noise": (str(config.input_noise), recipe_for),
        "level": (_describe_level(config), recipe_for),
        "anchor_share": (
            f"{config.anchor_share:g}",
            f"{recipe_for}: how far forecasts are drawn to a damped trend",
        ),
    }


def _explain_season(season: int, usual: int) -> str:
    if season == usual:
        return "the usual one"
    if season > usual:
        return "enough weeks to follow them"
    return f"none: most series are shorter than two seasons of {usual} steps"


def _describe_level(config: NetworkConfig) -> str:
    smoothing = config.level_smoothing
    return "newest value" if smoothing == 1 else f"mean that weighs the newest {smoothing:g}"


def _kept_reasons(plan: Plan) -> dict[str, tuple[str, str]]:
    config = plan.config
    value = f"{config.num_members} networks, {config.transform}, season {config.season}"
    return {"network": (value, "that of the checkpoint, with its weights to begin with")}


def _training_reasons(plan: Plan) -> dict[str, tuple[str, str]]:
    options, is_tuned = plan.options, plan.start is not None
    steps = "half of those from scratch" if is_tuned else "recipe for such seasons"
    more = "; twice that on the axis of values" if "identity" in plan.config.axes else ""
    rate = "a tenth of that from scratch, so that what was learned is kept"
    context = "that of the checkpoint" if is_tuned else "six seasons, from 512 to 4096"
    share = choose_recipe(plan.config.season).batch_share
    rows = f"{TrainingOptions().batch_size}, or {'all' if share == 1 else f'{share:.0%} of all'}"
    return {
        "context_length": (f"{options.context_length} steps", context),
        "batch_size": (f"{options.batch_size} series", f"{rows} if fewer"),
        "max_steps": (f"{options.max_steps} steps", steps + more),
        "learning_rate": (f"{options.learning_rate:g}", rate if is_tuned else "the usual one"),
    }
