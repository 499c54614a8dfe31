"""Which runner keeps the states of a history: the same one for all gateways.

By rendezvous hashing (Thaler and Ravishankar, 1998), so that when a runner comes or goes, only the
histories that it keeps move.
"""

from collections.abc import Sequence
from hashlib import blake2b

from app.tensors import Tensors

_BEGINNING_STEPS = 8


def history_key(owner: str, model_name: str, inputs: Tensors) -> bytes:
    """Return what stays the same while the first history of a request grows."""
    beginning = inputs["past_target"][0, :_BEGINNING_STEPS].tobytes()
    return f"{owner}\n{model_name}\n".encode() + beginning


def choose_keeper(key: bytes, names: Sequence[str]) -> int:
    """Return the place in ``names`` of the runner that keeps what ``key`` stands for."""
    ranks = [blake2b(key + name.encode(), digest_size=8).digest() for name in names]
    return ranks.index(max(ranks))
