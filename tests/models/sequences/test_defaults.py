import numpy as np
import pytest

from models.sequences.defaults import choose_config, choose_training
from models.sequences.examples import Example, ExampleSet


def make_items(count: int) -> ExampleSet:
    values = np.arange(2.0)[:, None]
    examples = tuple(Example(f"i{n}", values, np.array(n % 2)) for n in range(count))
    return ExampleSet("classify", examples, ("x",), classes=("a", "b"))


@pytest.mark.parametrize(
    ("count", "batch_size", "max_steps"),
    [(40, 32, 400), (1600, 32, 1000), (4800, 32, 3000), (6400, 128, 1000), (10**5, 128, 3000)],
)
def test_steps_follow_the_number_of_sequences(count: int, batch_size: int, max_steps: int) -> None:
    options = choose_training(make_items(count), {})
    assert (options.batch_size, options.max_steps) == (batch_size, max_steps)


def test_steps_follow_a_batch_that_is_asked_for() -> None:
    assert choose_training(make_items(1600), {"batch_size": 16}).max_steps == 2000
    assert choose_training(make_items(1600), {"max_steps": 7}).max_steps == 7


@pytest.mark.parametrize(("count", "size", "layers"), [(40, 32, 1), (600, 64, 2), (5000, 128, 2)])
def test_size_follows_the_number_of_sequences(count: int, size: int, layers: int) -> None:
    config = choose_config(make_items(count), {})
    assert (config.hidden_size, config.num_layers) == (size, layers)
    assert config.num_members > 1


def test_what_is_asked_for_is_taken() -> None:
    config = choose_config(make_items(40), {"num_members": 1, "level_noise": 0.0, "cell": "gru"})
    assert (config.num_members, config.level_noise, config.cell) == (1, 0, "gru")
