from typing import Any

import numpy as np
import pytest
import torch

from models.sequences.config import SequenceConfig
from models.sequences.member import Pool
from models.sequences.network import SequenceNetwork, answer_loss
from tests.sequence_models import untrained

SEQUENCE = torch.tensor([[[110.0, 4.0, 1.4], [90.0, -50.0, torch.nan], [0.0, 0.0, 0.0]]])


def pool(kind: str, encoded: list[list[float]], length: int) -> list[float]:
    config = SequenceConfig(
        task="classify", features=("x",), classes=("a", "b"), hidden_size=1, pooling=kind  # type: ignore[arg-type]
    )  # fmt: skip
    torch.manual_seed(3)
    layer = Pool(config, 2)
    with torch.inference_mode():
        pooled = layer(torch.tensor(encoded).unsqueeze(1), torch.tensor([length]))
    return [round(value, 5) for value in pooled[0].tolist()]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("mean", [2.0, -2.0]),
        ("max", [3.0, -1.0]),
        ("last", [3.0, -1.0]),  # of the second half, read backwards, the first step
    ],
)
def test_pooling_over_valid_steps(kind: str, expected: list[float]) -> None:
    assert pool(kind, [[1.0, -1.0], [3.0, -3.0], [99.0, 99.0]], 2) == expected


def test_attention_weighs_valid_steps() -> None:
    encoded = [[1.0, -1.0], [3.0, -3.0]]
    short = pool("attention", encoded, 2)
    assert pool("attention", [*encoded, [99.0, 99.0]], 2) == short
    assert 1 < short[0] < 3


@pytest.mark.parametrize("task", ["classify", "regress", "tag"])
@pytest.mark.parametrize("junk", [0.0, 1e30, float("inf"), float("nan")], ids=str)
def test_padding_changes_nothing(task: str, junk: float) -> None:
    network = untrained(task).network
    lengths = torch.tensor([2], dtype=torch.int32)
    padded = SEQUENCE.clone()
    padded[:, 2] = junk
    with torch.inference_mode():
        want = network({"sequence": SEQUENCE[:, :2], "sequence_lens": lengths})
        got = network({"sequence": padded, "sequence_lens": lengths})
    for name, values in want.items():
        answers = got[name][:, :2] if task == "tag" else got[name]
        np.testing.assert_allclose(answers, values, rtol=1e-6)


def test_gap_has_its_indicator_and_counts_as_the_mean() -> None:
    network = untrained("tag").network
    scaled = network._fill(network._scale(SEQUENCE)).transpose(0, 1)
    assert scaled.shape[-1] == 5
    np.testing.assert_allclose(scaled[0, 0], [0.5, 0.639, -1.0, 0, 0], atol=1e-3)
    assert scaled[0, 1, [2, 4]].tolist() == [0, 1]


def test_heavy_feature_keeps_its_sign_and_is_squeezed() -> None:
    network = untrained("tag").network
    values = torch.tensor([[[100.0, size, 1.5] for size in (-3e6, -3.0, 0.0, 3.0, 3e6)]])
    heat = network._scale(values)[0, :, 1] * 0.7 + 0.4
    expected = np.array([-7.0, np.log(2), 0, np.log(2), 7.0])
    np.testing.assert_allclose(heat.abs()[1:4], np.abs(expected)[1:4], rtol=1e-5)
    assert heat[0] < heat[1] < 0 < heat[3] < heat[4]


def test_temperature_flattens_and_keeps_the_order() -> None:
    network = untrained("classify").network
    inputs = {"sequence": SEQUENCE, "sequence_lens": torch.tensor([3], dtype=torch.int32)}
    with torch.inference_mode():
        sure = network(inputs)["probabilities"][0]
        network.temperature.fill_(17)
        unsure = network(inputs)["probabilities"][0]
    assert unsure.max() < sure.max()
    assert sure.argsort().tolist() == unsure.argsort().tolist()


def test_layers_read_in_both_directions() -> None:
    def sizes(**overrides: Any) -> int:
        network: SequenceNetwork = untrained("classify", **overrides).network
        return network.list_members()[0].answer.in_features

    assert (sizes(), sizes(is_bidirectional=False)) == (12, 6)


def test_answer_is_that_of_the_mean_logits_of_the_members() -> None:
    network = untrained("classify", num_members=3).network
    inputs = {"sequence": SEQUENCE, "sequence_lens": torch.tensor([3], dtype=torch.int32)}
    with torch.inference_mode():
        logits = network.score_members(inputs)
        probabilities = network(inputs)["probabilities"]
    assert logits.shape == (3, 1, 3)
    assert (logits[0] - logits[1]).abs().max() > 0.01
    expected = (logits.mean(0) / network.temperature).softmax(-1)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-6)


def test_each_member_learns_to_answer_alone() -> None:
    network = untrained("regress", num_members=2, input_noise=0.0, dropout=0.0).network.train()
    answer = torch.tensor([[58.0, 42.0]], dtype=torch.float64)  # 1 and -1, standardised
    lengths = torch.tensor([3], dtype=torch.int32)
    batch = {"sequence": SEQUENCE, "sequence_lens": lengths, "answer": answer}
    with torch.inference_mode():
        scores = network.score_members(batch)
        loss = answer_loss(network, batch)
    errors = (scores - torch.tensor([[1.0, -1.0]])) ** 2
    assert float(loss) == pytest.approx(float(errors.mean()), rel=1e-5)


def test_level_noise_is_the_same_at_all_steps_of_a_sequence() -> None:
    network = untrained("tag", level_noise=1.0).network
    scaled = torch.zeros(2, 5, 3)
    torch.manual_seed(5)
    noise = network._disturb(scaled)
    assert torch.equal(noise, noise[:, :1].expand_as(noise))
    assert len(set(noise[:, 0].flatten().tolist())) == 6


def test_noise_disturbs_training_alone() -> None:
    network = untrained("classify", level_noise=0.5, input_noise=0.4, dropout=0.0).network
    inputs = {"sequence": SEQUENCE, "sequence_lens": torch.tensor([3], dtype=torch.int32)}
    with torch.inference_mode():
        assert torch.equal(network.score(inputs), network.score(inputs))
        network.train()
        assert not torch.equal(network.score(inputs), network.score(inputs))
