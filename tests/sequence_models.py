"""Small untrained models that classify, regress or tag, for tests."""

from typing import Any

import torch

from app.artifact.card import Training
from models.sequences.checkpoint import SequenceCheckpoint
from models.sequences.config import SequenceConfig
from models.sequences.network import Scaling, SequenceNetwork

FEATURES = ("load", "heat", "flow")
_SEED = 11


def untrained(task: str, **overrides: Any) -> SequenceCheckpoint:
    """Return a model of ``task``; ``overrides`` are fields of its ``SequenceConfig``."""
    answers = {"targets": ("wear", "cost")} if task == "regress" else {"classes": ("a", "b", "c")}
    settings: dict[str, Any] = {
        "task": task,
        "features": FEATURES,
        "has_gaps": (False, True, True),
        "hidden_size": 6,
        "pooling": None if task == "tag" else "mean",
        **answers,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        network = SequenceNetwork(SequenceConfig(**settings | overrides)).eval()
        for member in network.list_members():
            torch.nn.init.normal_(member.answer.weight, std=1.0)
    network.set_scaling(
        Scaling(
            centre=torch.tensor([100.0, 0.0, 1.5]),
            unit=torch.tensor([20.0, 3.0, 0.1]),
            is_heavy=torch.tensor([False, True, False]),
            mean=torch.tensor([0.0, 0.4, 0.0]),
            std=torch.tensor([1.0, 0.7, 1.0]),
            target_mean=torch.full((len(network.config.targets),), 50.0),
            target_std=torch.full((len(network.config.targets),), 8.0),
        )
    )
    if task != "regress":
        network.temperature.fill_(1.7)
    training = Training(
        data_digest="0" * 16, num_series=0, num_observations=0, seed=_SEED, config={}
    )
    return SequenceCheckpoint(
        network=network,
        max_length=12,
        training=training,
        item="item_id",
        time=None,
        targets=network.config.targets or ("label",),
        baseline=(50.0, 50.0) if task == "regress" else (0.5, 0.3, 0.2),
        description="An untrained model for tests.",
    )
