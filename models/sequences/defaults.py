"""What suits a set of sequences, where the user does not say otherwise, and why."""

from collections.abc import Container
from dataclasses import fields
from typing import Any

import numpy as np

from models.reasons import Reason
from models.sequences.config import SequenceConfig
from models.sequences.examples import ExampleSet
from models.sequences.training import SequenceTraining

_FEW, _MANY = 500, 5000
_SMALL, _MIDDLE, _LARGE = 32, 64, 128
_SMALL_BATCH, _LARGE_BATCH = 32, 128
_MEMBERS = 3
_INPUT_NOISE, _LEVEL_NOISE = 0.4, 0.5
_PASSES, _FEWEST_STEPS, _MOST_STEPS = 20, 400, 3000
_LENGTH_HEADROOM = 2
_ASKED_FOR = "as asked for"


def choose_config(items: ExampleSet, wanted: dict[str, Any]) -> SequenceConfig:
    """Return the network for ``items``: what is ``wanted``, and what suits them for the rest.

    Args:
        items: What to learn from.
        wanted: Fields of ``SequenceConfig`` by name.
    """
    count, is_few = len(items.examples), len(items.examples) < _FEW
    values = np.vstack([example.values for example in items.examples])
    suitable = {
        "hidden_size": _SMALL if is_few else _MIDDLE if count < _MANY else _LARGE,
        "num_layers": 1 if is_few else 2,
        "pooling": None if items.task == "tag" else "attention",
        "num_members": _MEMBERS,
        "input_noise": _INPUT_NOISE,
        "level_noise": _LEVEL_NOISE,
    }
    return SequenceConfig(
        task=items.task,
        features=items.features,
        classes=items.classes,
        targets=items.targets,
        has_gaps=tuple(bool(np.isnan(column).any()) for column in values.T),
        **(suitable | wanted),
    )


def choose_training(items: ExampleSet, wanted: dict[str, Any]) -> SequenceTraining:
    """Return how to train on ``items``: what is ``wanted``, and what suits them for the rest.

    Args:
        items: What to learn from.
        wanted: Fields of ``SequenceTraining`` by name.
    """
    count = len(items.examples)
    batch_size = wanted.get("batch_size", _LARGE_BATCH if count >= _MANY else _SMALL_BATCH)
    max_steps = min(max(_PASSES * count // batch_size, _FEWEST_STEPS), _MOST_STEPS)
    return SequenceTraining(**({"batch_size": batch_size, "max_steps": max_steps} | wanted))


def max_length(items: ExampleSet) -> int:
    """Return the most steps that a service should accept: twice those that were learned from."""
    return _LENGTH_HEADROOM * max(items.lengths)


def list_reasons(
    items: ExampleSet,
    config: SequenceConfig,
    options: SequenceTraining,
    wanted: Container[str],
) -> list[Reason]:
    """Return the settings that matter most; ``wanted`` names those that the user gave."""
    count = f"{len(items.examples)} sequences"
    size = f"for {count}: {_SMALL} below {_FEW}, {_MIDDLE} below {_MANY}, else {_LARGE}"
    direction = "both" if config.is_bidirectional else "forwards"
    reasons = {
        "cell": (config.cell, "the usual one"),
        "is_bidirectional": (direction, "a sequence is there as a whole before it is answered"),
        "hidden_size": (f"{config.hidden_size} units", size),
        "num_layers": (str(config.num_layers), f"for {count}: 1 below {_FEW}, else 2"),
        "pooling": (config.pooling or "none", _pooling_reason(items)),
        "dropout": (f"{config.dropout:g}", "the usual one"),
        "num_members": (f"{config.num_members} networks", "their mean errs less"),
        "input_noise": (f"{config.input_noise:g}", "at each step, against learning by heart"),
        "level_noise": (f"{config.level_noise:g}", "on whole sequences, as other sources differ"),
        "batch_size": (f"{options.batch_size} sequences", f"for {count}"),
        "held_back_share": (
            f"{options.held_back_share:g}",
            "to stop in time and to calibrate; alike shares of each answer",
        ),
        "max_steps": (
            f"{options.max_steps} steps",
            f"{_PASSES} passes, {_FEWEST_STEPS} to {_MOST_STEPS} steps; the best look is kept",
        ),
    }
    names = {
        "is_bidirectional": "directions",
        "held_back_share": "held back",
        "num_members": "members",
    }
    return [
        Reason(
            names.get(name, name.replace("_", " ")), value, _ASKED_FOR if name in wanted else why
        )
        for name, (value, why) in reasons.items()
    ]


def _pooling_reason(items: ExampleSet) -> str:
    if items.task == "tag":
        return "each step has an answer of its own"
    return "weighs the valid steps; others are last, mean and max"


def fields_of(kind: type[Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the options the user gave that are fields of ``kind``."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in given.items() if name in names and value is not None}
