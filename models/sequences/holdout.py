"""Which sequences are held back to tell when to stop and how sure an answer may be."""

import numpy as np

from models.sequences.examples import ExampleSet

LEAST_EXAMPLES = 4
_NO_TAG = -1.0


def split_examples(items: ExampleSet, share: float, seed: int) -> tuple[ExampleSet, ExampleSet]:
    """Return what to learn from, and what to hold back.

    Sequences are shuffled and put in order of their answer, and each ``1 / share``-th is held back:
    so both parts have alike shares of each class, or alike numbers to find. A class with a single
    sequence is learned. Sequences to tag are ordered by their commonest tag; what has none is
    learned, too, as nothing can be measured on it.

    Args:
        items: At least ``LEAST_EXAMPLES``.
        share: Of the sequences to hold back.
        seed: Of the shuffle.
    """
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(items.examples))
    keys = np.array([_sort_key(items, place) for place in shuffled])
    ordered = shuffled[np.argsort(keys, kind="stable")]
    sorted_keys = np.sort(keys, kind="stable")
    must_learn = np.zeros(len(ordered), bool)
    if items.task == "classify":
        _, places, counts = np.unique(sorted_keys, return_inverse=True, return_counts=True)
        must_learn = counts[places] == 1
    elif items.task == "tag":
        must_learn = sorted_keys == _NO_TAG
    # The number of sequences to hold back rises by one every 1 / share sequences.
    due = np.floor((np.arange(len(ordered)) + 0.5) * share + 0.5).astype(int)
    is_held = np.diff(due, prepend=0) > 0
    is_held &= ~must_learn
    if not is_held.any():
        is_held[int(np.flatnonzero(~must_learn)[0]) if not must_learn.all() else 0] = True
    learned = sorted(int(place) for place in ordered[~is_held])
    held = sorted(int(place) for place in ordered[is_held])
    return items.select(learned), items.select(held)


def _sort_key(items: ExampleSet, place: int) -> float:
    answer = items.examples[place].answer
    if items.task == "tag":
        known = answer[answer >= 0].astype(int)
        return float(np.bincount(known).argmax()) if len(known) else _NO_TAG
    return float(answer.reshape(-1)[0])
