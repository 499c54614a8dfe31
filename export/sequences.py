"""Writes down what a sequence model is: its artifact, with card and golden case, and samples."""

from collections.abc import Sequence

import numpy as np
import torch

from app.artifact.golden_case import GoldenCase
from app.artifact.metadata import to_metadata
from app.artifact.seal import seal
from app.artifact.sequence_card import SequenceCard
from app.artifact.specs import TensorSpec
from app.tensors import Tensors
from export.card import library_versions
from export.graph import to_bytes, write_graph
from export.interface import BATCH, TIME
from models.sequences.checkpoint import SequenceCheckpoint
from models.sequences.config import SequenceConfig
from models.sequences.network import SequenceNetwork

_GOLDEN_SEED = 20_263
_GOLDEN_LENGTHS = (17, 1, 6, 11)
_MISSING_SHARE = 0.1
_LARGE_SHARE = 0.02
_LARGE = 1e3


def to_sequence_artifact(checkpoint: SequenceCheckpoint) -> bytes:
    """Return the sealed artifact of ``checkpoint``: graph, card and golden case in one file.

    Raises:
        ArtifactError: The exporter did not give the graph that serving needs.
    """
    card = to_sequence_card(checkpoint)
    inputs = make_sequences(checkpoint.network, _golden_lengths(card), _GOLDEN_SEED)
    golden_case = GoldenCase.from_tensors(inputs, run_network(checkpoint.network, inputs))
    metadata = to_metadata(card, golden_case)
    graph = write_graph(checkpoint.network, card.inputs, card.outputs, metadata)
    return seal(to_bytes(graph))


def to_sequence_card(checkpoint: SequenceCheckpoint) -> SequenceCard:
    """Return what the service has to know about ``checkpoint``."""
    config = checkpoint.network.config
    return SequenceCard(
        task=config.task,
        description=checkpoint.description,
        cell=config.cell,
        num_layers=config.num_layers,
        hidden_size=config.hidden_size,
        num_members=config.num_members,
        is_bidirectional=config.is_bidirectional,
        pooling=config.pooling,
        features=config.features,
        classes=config.classes,
        targets=config.targets,
        max_length=checkpoint.max_length,
        temperature=float(checkpoint.network.temperature),
        inputs=(
            TensorSpec(name="sequence", datatype="FP32", shape=(BATCH, TIME, len(config.features))),
            TensorSpec(name="sequence_lens", datatype="INT32", shape=(BATCH,)),
        ),
        outputs=(_output_spec(config),),
        training=checkpoint.training,
        accuracy=checkpoint.accuracy,
        made_with=library_versions(),
    )


def _output_spec(config: SequenceConfig) -> TensorSpec:
    name = "values" if config.task == "regress" else "probabilities"
    steps = (TIME,) if config.task == "tag" else ()
    return TensorSpec(name=name, datatype="FP32", shape=(BATCH, *steps, config.num_outputs))


def _golden_lengths(card: SequenceCard) -> list[int]:
    return [min(length, card.max_length) for length in _GOLDEN_LENGTHS]


def make_sequences(network: SequenceNetwork, lengths: Sequence[int], seed: int) -> Tensors:
    """Return the inputs of one made-up sequence per length, in the units of each feature.

    A tenth of all numbers is missing and a fiftieth a thousand times too large.

    Args:
        network: Knows the units.
        lengths: Steps of each sequence, at least 1.
        seed: Fixes every number.

    Returns:
        ``sequence`` ``(batch, time, num_features)``, padded on the right with NaN, and
        ``sequence_lens`` ``(batch,)``.
    """
    unit = (network.unit * network.std).double().numpy()
    centre = (network.centre + network.unit * network.mean).double().numpy()
    generator = np.random.default_rng(seed)
    sequence_lens = np.array(lengths, np.int32)
    size = (len(sequence_lens), int(sequence_lens.max()), len(unit))
    walks = generator.normal(0, 0.3, size).cumsum(1) + generator.normal(0, 1, size)
    walks[generator.random(size) < _LARGE_SHARE] *= _LARGE
    walks[generator.random(size) < _MISSING_SHARE] = np.nan
    values = (centre + unit * walks).astype(np.float32)
    return fill_padding({"sequence": values, "sequence_lens": sequence_lens}, np.nan)


def fill_padding(inputs: Tensors, value: float) -> Tensors:
    """Return ``inputs`` with ``value`` at every step past the end of its row."""
    sequence = inputs["sequence"].copy()
    sequence[np.arange(sequence.shape[1]) >= inputs["sequence_lens"][:, None]] = value
    return inputs | {"sequence": sequence}


def take_row(inputs: Tensors, row: int) -> Tensors:
    """Return one sequence as a batch of its own, without padding."""
    length = int(inputs["sequence_lens"][row])
    return {
        "sequence": inputs["sequence"][row : row + 1, :length],
        "sequence_lens": inputs["sequence_lens"][row : row + 1],
    }


def run_network(network: SequenceNetwork, inputs: Tensors) -> Tensors:
    """Run ``network`` in PyTorch on the CPU."""
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    with torch.inference_mode():
        outputs = network(tensors)
    return {name: tensor.numpy() for name, tensor in outputs.items()}
