"""Names, types and shapes of what a forecaster's graph takes and gives."""

from app.artifact.specs import StateSpec, TensorSpec
from models.config import NetworkConfig
from models.recurrent import num_states

BATCH, TIME, TIME_AND_HORIZON = "batch", "time", "time+horizon"
"""Names of the dimensions that are free."""


def input_specs(config: NetworkConfig) -> tuple[TensorSpec, ...]:
    """Return the inputs without the states, in the order of the graph."""
    num_past, num_future = len(config.past_covariates), config.num_future
    num_static = len(config.static_covariates)
    shapes: dict[str, tuple[int | str, ...]] = {"past_target": (BATCH, TIME)}
    if num_past:
        shapes["past_covariates"] = (BATCH, TIME, num_past)
    if num_future:
        shapes["future_covariates"] = (BATCH, TIME_AND_HORIZON, num_future)
    if num_static:
        shapes["static_covariates"] = (BATCH, num_static)
    lengths = TensorSpec(name="sequence_lens", datatype="INT32", shape=(BATCH,))
    return (
        lengths,
        *(TensorSpec(name=name, datatype="FP32", shape=shape) for name, shape in shapes.items()),
    )


def state_specs(config: NetworkConfig) -> tuple[StateSpec, ...]:
    """Return the carried states, in the order of the graph."""
    layers = (config.num_members * config.num_layers, config.hidden_size)
    num_axes = len(config.axes)
    recurrent = ("hidden_state", "cell_state")[: num_states(config.cell)]
    return (
        StateSpec(
            name="recent_target",
            next_name="next_recent_target",
            datatype="FP32",
            shape=(num_axes * config.tail_length,),
            initial=None,
        ),
        StateSpec(
            name="running_sums",
            next_name="next_running_sums",
            datatype="FP64",
            shape=(num_axes * config.num_sums,),
            initial=0.0,
        ),
        *(
            StateSpec(
                name=name, next_name=f"next_{name}", datatype="FP32", shape=layers, initial=0.0
            )
            for name in recurrent
        ),
    )


def output_specs(config: NetworkConfig) -> tuple[TensorSpec, ...]:
    """Return the outputs without the states, in the order of the graph."""
    shape = (BATCH, config.horizon, len(config.quantile_levels))
    return (TensorSpec(name="quantiles", datatype="FP32", shape=shape),)


def graph_inputs(config: NetworkConfig) -> tuple[TensorSpec, ...]:
    """Return every input of the graph, states last."""
    states = (
        TensorSpec(name=state.name, datatype=state.datatype, shape=(BATCH, *state.shape))
        for state in state_specs(config)
    )
    return (*input_specs(config), *states)


def graph_outputs(config: NetworkConfig) -> tuple[TensorSpec, ...]:
    """Return every output of the graph, states last."""
    states = (
        TensorSpec(name=state.next_name, datatype=state.datatype, shape=(BATCH, *state.shape))
        for state in state_specs(config)
    )
    return (*output_specs(config), *states)
