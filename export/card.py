"""Writes down what a forecaster is: its card, and a golden case to replay."""

import platform
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import onnx
import onnxruntime
import onnxscript
import torch

from app.artifact.card import Card
from app.artifact.golden_case import GoldenCase
from app.tensors import Tensors
from export.interface import input_specs, output_specs, state_specs
from export.samples import make_samples, take_steps
from models.checkpoint import Checkpoint
from models.forecaster import Forecaster

_GOLDEN_SEED = 20_261
_GOLDEN_LENGTHS = (31, 1, 12, 24)
_GOLDEN_FIRST_STEPS = 7


def to_card(checkpoint: Checkpoint) -> Card:
    """Return what the service has to know about ``checkpoint``."""
    config = checkpoint.network.config
    return Card(
        description=checkpoint.description,
        cell=config.cell,
        num_layers=config.num_layers,
        hidden_size=config.hidden_size,
        num_members=config.num_members,
        transform=config.transform,
        is_nonnegative=config.is_nonnegative or "log" in config.axes,
        freq=checkpoint.freq,
        season=config.season,
        horizon=config.horizon,
        context_length=checkpoint.context_length,
        quantile_levels=config.quantile_levels,
        past_covariates=config.past_covariates,
        future_covariates=config.future_covariates,
        static_covariates=config.static_covariates,
        static_categories=config.categories,
        calendar_features=config.calendar_features,
        holidays=checkpoint.holidays,
        inputs=input_specs(config),
        outputs=output_specs(config),
        states=state_specs(config),
        training=checkpoint.training,
        accuracy=checkpoint.accuracy,
        made_with=library_versions(),
    )


def to_golden_case(network: Forecaster, card: Card) -> GoldenCase:
    """Run a few made-up series in PyTorch, from carried states on, and record the run."""
    samples = make_samples(card, _GOLDEN_LENGTHS, _GOLDEN_SEED)
    lengths = samples["sequence_lens"]
    first = np.minimum(_GOLDEN_FIRST_STEPS, lengths)
    states = run_network(network, take_steps(samples, 0, first))
    inputs = make_samples(card, _GOLDEN_LENGTHS, _GOLDEN_SEED + 1) | {
        state.name: states[state.next_name] for state in card.states
    }
    return GoldenCase.from_tensors(inputs, run_network(network, inputs))


def run_network(network: Forecaster, inputs: Tensors) -> Tensors:
    """Run ``network`` in PyTorch on the CPU; states that ``inputs`` lack begin anew."""
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    initial = network.initial_state(len(inputs["past_target"]))
    with torch.inference_mode():
        outputs = network(initial | tensors)
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def library_versions() -> dict[str, str]:
    """Return the versions of what makes an artifact, without build tags."""
    versions = {
        "gatecast": _own_version(),
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "onnxscript": onnxscript.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    return {name: text.partition("+")[0] for name, text in versions.items()}


def _own_version() -> str:
    try:
        return version("gatecast")
    except PackageNotFoundError:
        return "not installed"
