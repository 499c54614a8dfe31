from collections import Counter

import numpy as np
import pytest

from models.sequences.examples import IGNORED, Example, ExampleSet
from models.sequences.holdout import split_examples
from models.sequences.scaling import find_scaling


def classes(*counts: int) -> ExampleSet:
    answers = [number for number, count in enumerate(counts) for _ in range(count)]
    examples = tuple(
        Example(f"i{n}", np.full((2, 1), float(n)), np.array(answer))
        for n, answer in enumerate(answers)
    )
    return ExampleSet("classify", examples, ("x",), classes=("a", "b", "c")[: len(counts)])


@pytest.mark.parametrize("counts", [(50, 30, 20), (10, 5, 5)], ids=str)
def test_each_class_keeps_its_share(counts: tuple[int, ...]) -> None:
    learned, held = split_examples(classes(*counts), 0.2, seed=1)
    shares = Counter(int(example.answer) for example in held.examples)
    assert [shares[number] for number in range(3)] == [count // 5 for count in counts]
    names = [example.item_id for example in (*learned.examples, *held.examples)]
    assert sorted(names) == sorted(example.item_id for example in classes(*counts).examples)


def test_class_of_one_sequence_is_learned() -> None:
    learned, held = split_examples(classes(1, 8), 0.2, seed=1)
    assert 0 in {int(example.answer) for example in learned.examples}
    assert held.examples


def test_sequences_without_a_tag_are_not_held_back() -> None:
    none, some = np.full(3, IGNORED), np.array([0, IGNORED, 1])
    examples = tuple(
        Example(f"i{n}", np.full((3, 1), float(n)), some if n in {3, 7} else none)
        for n in range(10)
    )
    items = ExampleSet("tag", examples, ("x",), classes=("a", "b"))
    assert items.num_answered == 2
    learned, held = split_examples(items, 0.2, seed=1)
    assert {example.item_id for example in held.examples} <= {"i3", "i7"}
    assert learned.num_answered == held.num_answered == 1


def test_something_is_held_back_even_of_few() -> None:
    learned, held = split_examples(classes(2, 2), 0.05, seed=1)
    assert (len(learned.examples), len(held.examples)) == (3, 1)


def test_scaling_tells_heavy_tails_from_others() -> None:
    random = np.random.default_rng(0)
    calm, wild = random.normal(5, 2, 400), np.exp(random.normal(0, 3, 400))
    values = np.stack([calm, wild, np.full(400, 3.0)], 1)
    values[::7, 0] = np.nan
    items = ExampleSet("classify", (Example("i", values, np.array(0)),), ("a", "b", "c"))
    scaling = find_scaling(items)
    assert scaling.is_heavy.tolist() == [False, True, False]
    assert scaling.centre[0] == pytest.approx(np.nanmean(values[:, 0]))
    assert scaling.unit[2] == 1


def test_feature_that_is_mostly_one_value_is_scaled_by_the_others() -> None:
    column = np.full(400, 2.0)
    column[::40] = [1, 3, 5, 7, 9, 1, 3, 5, 7, 9]
    items = ExampleSet("classify", (Example("i", column[:, None], np.array(0)),), ("a",))
    scaling = find_scaling(items)
    assert not scaling.is_heavy[0]
    assert scaling.centre[0] == 2
    assert scaling.unit[0] == pytest.approx(np.sqrt(np.mean((np.arange(1, 10, 2) - 2) ** 2)))


def test_rare_values_of_heavy_tails_are_squeezed() -> None:
    random = np.random.default_rng(0)
    column = np.zeros(4000)
    column[::10] = np.exp(random.normal(0, 3, 400))
    items = ExampleSet("classify", (Example("i", column[:, None], np.array(0)),), ("a",))
    scaling = find_scaling(items)
    squeezed = np.log1p(column[::10] / float(scaling.unit[0]))
    assert scaling.is_heavy[0]
    assert scaling.centre[0] == 0
    assert scaling.mean[0] == 0
    assert scaling.std[0] == pytest.approx(np.sqrt(np.mean(squeezed**2)), rel=1e-6)
