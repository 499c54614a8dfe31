"""Everything the service must know about a model that classifies, regresses or tags."""

from typing import Literal, Self

from pydantic import Field, model_validator

from app.artifact.card import Training
from app.artifact.specs import Content, StateSpec, TensorSpec

SequenceTask = Literal["classify", "regress", "tag"]
"""One class of a sequence, numbers of a sequence, or one class of each of its steps."""


class TaskAccuracy(Content):
    """A measure of a sequence model on a test part, beside that of a baseline in the same run."""

    data_set: str
    num_sequences: int
    metric: str
    """Its name and unit, for instance ``accuracy`` or ``mean absolute error``."""
    value: float
    baseline: str
    baseline_value: float


class SequenceCard(Content):
    """Everything the service must know about a model that classifies, regresses or tags."""

    format_version: Literal[1] = 1
    task: SequenceTask
    description: str = ""
    cell: Literal["lstm", "gru"]
    num_layers: int
    hidden_size: int
    num_members: int = 1
    """Networks in the file, each of ``num_layers``; the answer comes from their mean."""
    is_bidirectional: bool = False
    pooling: Literal["last", "mean", "max", "attention"] | None
    """How the steps become one answer; None where each has its own."""
    features: tuple[str, ...]
    """Columns of the tensor ``sequence``, in order."""
    classes: tuple[str, ...] = ()
    """What ``probabilities`` count, in order; empty where the model regresses."""
    targets: tuple[str, ...] = ()
    """What ``values`` are, in order; empty where the model does not regress."""
    max_length: int
    """Most steps of a sequence."""
    temperature: float = 1.0
    """What the probabilities were calibrated with; 1 where they were not."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...] = Field((), max_length=0)
    """None: a sequence is read as a whole."""
    training: Training
    accuracy: tuple[TaskAccuracy, ...] = ()
    made_with: dict[str, str]
    """Versions of the libraries that made the file."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        if not self.features or len({*self.features}) != len(self.features):
            raise ValueError("features must be names, each once")
        names, others = self.classes, self.targets
        if self.task == "regress":
            names, others = others, names
        if not names or others or len({*names}) != len(names):
            raise ValueError("classes, or where the model regresses targets, must be named once")
        if (self.pooling is None) != (self.task == "tag"):
            raise ValueError("a model has a pooling, unless it tags")
        return self

    @model_validator(mode="after")
    def _check_tensors(self) -> Self:
        pairs = (self.inputs, self._wanted_inputs), (self.outputs, self._wanted_outputs)
        for given, wanted in pairs:
            if {spec.name: spec for spec in given} != {spec.name: spec for spec in wanted}:
                names = ", ".join(f"{spec.name} {spec.datatype} {spec.shape}" for spec in wanted)
                raise ValueError(f"the tensors of this task must be {names}")
        return self

    @property
    def _wanted_inputs(self) -> tuple[TensorSpec, ...]:
        shape = ("batch", "time", len(self.features))
        return (
            TensorSpec(name="sequence", datatype="FP32", shape=shape),
            TensorSpec(name="sequence_lens", datatype="INT32", shape=("batch",)),
        )

    @property
    def _wanted_outputs(self) -> tuple[TensorSpec, ...]:
        if self.task == "regress":
            shape: tuple[int | str, ...] = ("batch", len(self.targets))
            return (TensorSpec(name="values", datatype="FP32", shape=shape),)
        steps = ("time",) if self.task == "tag" else ()
        shape = ("batch", *steps, len(self.classes))
        return (TensorSpec(name="probabilities", datatype="FP32", shape=shape),)
