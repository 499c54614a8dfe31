"""Model files that are broken or mean harm, by what is wrong with them."""

import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from app.artifact.metadata import CARD_KEY, GOLDEN_CASE_KEY
from app.artifact.seal import DIGEST_KEY, UNSEALED_DIGEST, seal
from tests.plain_models import identity_model, lstm_model

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
FOREIGN = "org.example"

Model = onnx.ModelProto


def declare(name: str, *shape: int | str, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def make_model(
    nodes: Sequence[onnx.NodeProto],
    *,
    constants: dict[str, Any] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
    opset: int = 20,
    columns: int | str = 2,
) -> Model:
    """Return a model that takes ``x`` and gives ``y``, both ``(batch, columns)``."""
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in (constants or {}).items()]
    x, y = (declare(name, "batch", columns) for name in ("x", "y"))
    graph = helper.make_graph(list(nodes), "hostile", [x], [y], tensors)
    domains = ["ai.onnx.ml", "com.microsoft", FOREIGN]
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10, functions=list(functions))


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def to_bytes(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString())


def external_tensor(location: str, name: str = "w") -> TensorProto:
    """Return a tensor of two floats whose numbers lie in ``location``."""
    tensor = TensorProto(name=name, data_type=FLOAT, dims=[2])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "8")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def with_initializer(tensor: TensorProto) -> Model:
    model = make_model([node("Add", "x w", "y")])
    model.graph.initializer.append(tensor)
    return model


def in_constant(tensor: TensorProto) -> Model:
    return make_model([node("Constant", "", "w", value=tensor), node("Add", "x w", "y")])


def in_sparse(tensor: TensorProto) -> Model:
    model = make_model([node("Add", "x w", "y")])
    indices = numpy_helper.from_array(np.array([0, 1]))
    sparse = onnx.SparseTensorProto(values=tensor, indices=indices, dims=[2])
    model.graph.sparse_initializer.append(sparse)
    return model


def in_branch(*inner: onnx.NodeProto) -> Model:
    """Return a model whose nodes ``inner``, which give ``z``, stand in a branch of an If."""
    branch = helper.make_graph(list(inner), "branch", [], [declare("z", "batch", 2)])
    chosen = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    return make_model([chosen], constants={"c": True})


def in_function(*inner: onnx.NodeProto) -> Model:
    """Return a model whose nodes ``inner``, which make ``z`` of ``x``, stand in a function."""
    function = make_function("F", inner)
    return make_model([node("F", "x", "y", domain=FOREIGN)], functions=[function])


def make_function(name: str, nodes: Sequence[onnx.NodeProto]) -> onnx.FunctionProto:
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(FOREIGN, 1)]
    return helper.make_function(FOREIGN, name, ["x"], ["z"], list(nodes), imports)


def calling_functions(calls: Mapping[str, Sequence[str]]) -> Model:
    """Return a model of functions, each of which calls others one after another."""
    functions = []
    for name, callees in calls.items():
        places = ["x", *(f"t{n}" for n in range(1, len(callees))), "z"]
        nodes = [
            helper.make_node(callee, [places[n]], [places[n + 1]], domain=FOREIGN)
            for n, callee in enumerate(callees)
        ]
        functions.append(make_function(name, nodes or [node("Neg", "x", "z")]))
    return make_model([node("F0", "x", "y", domain=FOREIGN)], functions=functions)


def looping(times: int, *, depth: int = 1) -> Model:
    """Return a model of loops in loops that each run ``times`` times."""
    inner = [node("Identity", "v", "w")]
    for level in range(depth):
        body = helper.make_graph(
            [*inner, node("Identity", "c", "d")],
            f"body{level}",
            [declare("i", kind=INT64), declare("c", kind=BOOL), declare("v", "batch", 2)],
            [declare("d", kind=BOOL), declare("w", "batch", 2)],
        )
        source, target = ("x", "y") if level == depth - 1 else ("v", "w")
        inner = [helper.make_node("Loop", ["times", "yes", source], [target], body=body)]
    return make_model(inner, constants={"times": np.int64(times), "yes": True})


def bomb(operator: str, inputs: str = "", **more: Any) -> Model:
    """Return a model that adds the mean of something huge to its input."""
    constants = {name: more.pop(name) for name in list(more) if isinstance(more[name], np.ndarray)}
    nodes = [
        node(operator, inputs, "huge", **more),
        node("Cast", "huge", "floats", to=FLOAT),
        node("ReduceMean", "floats", "mean", keepdims=0),
        node("Add", "x mean", "y"),
    ]
    return make_model(nodes, constants=constants)


def growing() -> Model:
    """Return a model that takes 4 bytes times 2^(4 * steps) of memory."""
    nodes = [
        node("Shape", "x", "steps", start=1),
        node("Mul", "steps four", "exponent"),
        node("Pow", "two exponent", "s"),
        node("ConstantOfShape", "s", "huge"),
        node("ReduceMean", "huge", "mean", keepdims=0),
        node("Add", "x mean", "y"),
    ]
    constants = {"four": np.array([4]), "two": np.array([2])}
    return make_model(nodes, constants=constants, columns="time")


def doubling(times: int) -> Model:
    """Return a model that joins a tensor to itself again and again."""
    nodes = [helper.make_node("Concat", [f"t{n}"] * 2, [f"t{n + 1}"], axis=1) for n in range(times)]
    first = node("Identity", "x", "t0")
    last = [node("ReduceMean", f"t{times}", "mean", keepdims=0), node("Add", "x mean", "y")]
    return make_model([first, *nodes, *last])


def recurrent(operator: str, hidden_size: int, **shapes: tuple[int, ...]) -> Model:
    """Return a recurrent layer with weights of the given shapes; 4 gates of 4 units would fit."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[operator]
    sound = {"W": (1, gates * 4, 2), "R": (1, gates * 4, 4), "B": (1, gates * 8)}
    constants = {n: np.ones(s, np.float32) for n, s in (sound | shapes).items()}
    nodes = [
        node("Unsqueeze", "x axes", "steps"),
        node(operator, "steps W R B", "states", hidden_size=hidden_size),
        node("ReduceMean", "states", "mean", keepdims=0),
        node("Add", "x mean", "y"),
    ]
    return make_model(nodes, constants={"axes": np.array([0]), **constants})


def aborting() -> Model:
    """Return a model that runs an LSTM on no rows, on which ONNX Runtime ends its process."""
    model = recurrent("LSTM", 4)
    first = model.graph.node[0]
    first.input[0] = "none"
    model.graph.node.insert(0, node("Slice", "x axes axes", "none"))
    return model


def nested_graphs(depth: int) -> bytes:
    """Return graphs in graphs, written byte by byte: libraries refuse to."""
    graph = b""
    for _ in range(depth):
        graph = field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, graph)))
    return b"\x08\x0a" + field(7, graph)


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def edited(artifact: bytes, edit: Callable[[Model], None]) -> bytes:
    """Return an artifact with something changed, sealed anew: as its maker could."""
    model = onnx.load_from_string(artifact)
    edit(model)
    for entry in model.metadata_props:
        if entry.key == DIGEST_KEY:
            entry.value = UNSEALED_DIGEST
    return seal(to_bytes(model))


def spoil_weights(model: Model, value: float) -> None:
    weights = next(t for t in model.graph.initializer if t.data_type == FLOAT and len(t.dims) == 3)
    weights.raw_data = np.full(list(weights.dims), value, np.float32).tobytes()


def put_metadata(model: Model, key: str, text: str) -> None:
    for entry in model.metadata_props:
        if entry.key == key:
            entry.value = text


def put_golden(model: Model, **changes: Any) -> None:
    for entry in model.metadata_props:
        if entry.key == GOLDEN_CASE_KEY:
            golden = json.loads(entry.value)
            golden["inputs"][0] |= changes
            entry.value = json.dumps(golden)


def broken_files(artifact: bytes) -> dict[str, bytes]:
    """Return bytes that are no model, or no longer one."""
    random = np.random.default_rng(0).bytes(2**20)
    return {
        "nothing": b"",
        "one zero": b"\0",
        "zeros": bytes(2**20),
        "random bytes": random,
        "a script": b"#!/bin/sh\nid\n",
        "an archive": b"PK\x03\x04" + random[:1000],
        "a pickle": pickle.dumps({"weights": [1.0]}),
        "half an artifact": artifact[: len(artifact) // 2],
        "an artifact that lacks 7 bytes": artifact[:-7],
        "an artifact and one more byte": artifact + b"\0",
        "an artifact twice": artifact * 2,
        "a number without end": b"\xff" * 4096,
        "a field of 2^40 bytes": varint(7 << 3 | 2) + varint(2**40) + b"x",
        "groups in groups": b"\x3b" * 100_000,
        "another format": b"\x18\0\0\0ORTM" + random[:1000],
        "another format in an ONNX file": b"\x08\x0a\x12\x08ORTMabcd" + field(7, b""),
        "no graph": b"\x08\x0a" + field(8, b"\x10\x14"),
        "200 graphs in one another": nested_graphs(200),
        "20,000 graphs in one another": nested_graphs(20_000),
    }


def foreign_files(outside: str) -> dict[str, Model]:
    """Return models that refer to files, one of them ``outside``, or to code of others."""
    custom = node("Load", "x", "y", domain=FOREIGN, library="/tmp/evil.so")  # noqa: S108
    scripted = node("Tokenize", "x", "z", domain=FOREIGN)
    marked = TensorProto(name="w", data_type=FLOAT, dims=[2], raw_data=bytes(8))
    marked.data_location = TensorProto.EXTERNAL
    trained = make_model([node("Neg", "x", "y")])
    trained.training_info.add().algorithm.name = "steps"
    standard = make_function("Neg", [node("Abs", "x", "z")])
    standard.domain = ""
    return {
        "numbers in /etc/passwd": with_initializer(external_tensor("/etc/passwd")),
        "numbers in the folder above": with_initializer(external_tensor("../../../secret")),
        "numbers in a file named in full": with_initializer(external_tensor(outside)),
        "numbers in the process's memory": with_initializer(external_tensor("*/_ORT_MEM_ADDR_/*")),
        "numbers elsewhere, of a constant": in_constant(external_tensor(outside)),
        "numbers elsewhere, of a sparse tensor": in_sparse(external_tensor(outside)),
        "numbers elsewhere, in a branch": in_branch(
            node("Constant", "", "w", value=external_tensor(outside)), node("Add", "x w", "z")
        ),
        "numbers elsewhere, in a function": in_function(
            node("Constant", "", "w", value=external_tensor(outside)), node("Add", "x w", "z")
        ),
        "numbers elsewhere, nobody says where": with_initializer(marked),
        "an operator with a library": make_model([custom]),
        "an operator of ONNX Runtime": make_model([node("Gelu", "x", "y", domain="com.microsoft")]),
        "an operator that opens files": make_model(
            [node("EPContext", "x", "y", domain="com.microsoft", ep_cache_context=outside)]
        ),
        "an operator of trees": make_model(
            [node("Scaler", "x", "y", domain="ai.onnx.ml", offset=[0.0], scale=[1.0])]
        ),
        "a foreign operator in a branch": in_branch(scripted),
        "a foreign operator in a function": in_function(scripted),
        "a function in place of an operator": make_model(
            [node("Neg", "x", "y")], functions=[standard]
        ),
        "an operator that does not exist": make_model([node("Teleport", "x", "y")]),
        "training steps": trained,
    }


def endless_files() -> dict[str, Model]:
    """Return models that take all the time or memory there is."""
    huge = np.array([2**38])
    return {
        "a loop without end": looping(2**62),
        "loops in loops in loops": looping(10**6, depth=3),
        "a function that calls itself": calling_functions({"F0": ["F0"]}),
        "functions that call each other": calling_functions({"F0": ["F1"], "F1": ["F0"]}),
        "functions that unfold to 10^20 nodes": calling_functions(
            {f"F{n}": [f"F{n + 1}"] * 10 for n in range(20)} | {"F20": []}
        ),
        "1,000 functions in a row": calling_functions(
            {f"F{n}": [f"F{n + 1}"] for n in range(1000)} | {"F1000": []}
        ),
        "a tensor of 1 TiB": bomb("ConstantOfShape", "s", s=huge),
        "a tensor of 3 GiB": bomb("ConstantOfShape", "s", s=np.array([3 * 2**28])),
        "one number 2^38 times": bomb("Expand", "one s", one=np.ones(1, np.float32), s=huge),
        "a tile 2^38 times": bomb("Tile", "one s", one=np.ones(1, np.float32), s=huge),
        "a range to 2^38": bomb(
            "Range", "from to by", **{"from": np.array(0), "to": np.array(2**38), "by": np.array(1)}
        ),
        "random numbers without measure": bomb("RandomNormal", shape=[2**38]),
        "a tensor of more bytes than numbers count": bomb(
            "ConstantOfShape", "s", s=np.array([2**32, 2**32])
        ),
        "a tensor joined to itself 40 times": doubling(40),
        "memory that grows with every step": growing(),
        "padding by 2^38": make_model(
            [node("Pad", "x p", "q"), node("ReduceMean", "q", "m", keepdims=0),
             node("Add", "x m", "y")],
            constants={"p": np.array([0, 2**38, 0, 0])},
        ),
        "a depth of 2^38": bomb(
            "OneHot", "i d v", i=np.array([0]), d=np.array(2**38), v=np.zeros(2, np.float32)
        ),
    }  # fmt: skip


def inconsistent_files() -> dict[str, Model]:
    """Return models that are well formed and make no sense."""
    claimed = TensorProto(name="w", data_type=FLOAT, dims=[2**40], raw_data=b"1234")
    wrapped = TensorProto(name="w", data_type=FLOAT, dims=[2**32, 2**32], raw_data=b"1234")
    negative = TensorProto(name="w", data_type=FLOAT, dims=[-1], raw_data=b"1234")
    unknown = TensorProto(name="w", data_type=99, dims=[1], raw_data=b"1234")
    newest = make_model([node("Neg", "x", "y")])
    newest.ir_version = 999
    twice = make_model([node("Neg", "x", "y")])
    twice.graph.input.append(twice.graph.input[0])
    speechless = make_model([])
    del speechless.graph.output[:]
    ints = {"zero": np.array(0), "one": np.array(1)}
    return {
        "an initializer that claims 4 TiB": with_initializer(claimed),
        "an initializer that claims 2^64 numbers": with_initializer(wrapped),
        "an initializer of negative size": with_initializer(negative),
        "an initializer of no known type": with_initializer(unknown),
        "nodes in a circle": make_model([node("Add", "x b", "a"), node("Neg", "a", "b"),
                                         node("Neg", "b", "y")]),
        "two nodes that give the same tensor": make_model([node("Neg", "x", "y"),
                                                           node("Abs", "x", "y")]),
        "two inputs of the same name": twice,
        "a node that takes what nobody gives": make_model([node("Add", "x ghost", "y")]),
        "no outputs": speechless,
        "an ONNX of the future": newest,
        "operators of the future": make_model([node("Neg", "x", "y")], opset=999),
        "text in an LSTM": make_model(
            [node("Cast", "x", "t", to=TensorProto.STRING),
             node("LSTM", "t t t", "y", hidden_size=2)]
        ),
        "an LSTM on no rows": aborting(),
        "an LSTM with too few weights": recurrent("LSTM", 4, W=(1, 4, 2)),
        "an LSTM with too few recurrent weights": recurrent("LSTM", 4, R=(1, 16, 1)),
        "an LSTM with too few biases": recurrent("LSTM", 4, B=(1, 2)),
        "an LSTM of a million units": recurrent("LSTM", 10**6),
        "an LSTM of negative size": recurrent("LSTM", -4),
        "an LSTM without directions": recurrent("LSTM", 4, W=(0, 16, 2)),
        "a GRU with too few weights": recurrent("GRU", 4, R=(1, 12, 1)),
        "an RNN with too few weights": recurrent("RNN", 4, W=(1, 1, 2)),
        "a division by zero": make_model(
            [node("Shape", "x", "s"), node("Mul", "s zero", "none"), node("Div", "s none", "q"),
             node("ReduceSum", "q", "sum", keepdims=0), node("Cast", "sum", "f", to=FLOAT),
             node("Add", "x f", "y")],
            constants=ints,
        ),
    }  # fmt: skip


def forged_artifacts(artifact: bytes) -> dict[str, bytes]:
    """Return artifacts that lie, sealed anew by who made them so."""
    forge = partial(edited, artifact)
    return {
        "other weights": forge(lambda m: spoil_weights(m, 0.1)),
        "weights that are no numbers": forge(lambda m: spoil_weights(m, float("nan"))),
        "a card that is no JSON": forge(lambda m: put_metadata(m, CARD_KEY, "{")),
        "a card that says nothing": forge(lambda m: put_metadata(m, CARD_KEY, "{}")),
        "a card of 100,000 brackets": forge(lambda m: put_metadata(m, CARD_KEY, "[" * 100_000)),
        "a card of 64 MiB": forge(lambda m: put_metadata(m, CARD_KEY, "9" * 2**26)),
        "a golden case that is no base64": forge(lambda m: put_golden(m, data="!" * 8)),
        "a golden case of another shape": forge(lambda m: put_golden(m, shape=[10**9, 10**9])),
        "a golden case of negative shape": forge(lambda m: put_golden(m, shape=[-2, -2])),
        "a golden case without rows": forge(lambda m: put_golden(m, shape=[0, 0], data="")),
        "a golden case of another type": forge(lambda m: put_golden(m, datatype="BYTES")),
        "two seals": artifact
        + field(14, field(1, DIGEST_KEY.encode()) + field(2, UNSEALED_DIGEST.encode())),
    }  # fmt: skip


def hostile_files(artifact: bytes, outside: str) -> dict[str, bytes]:
    """Return all files, by what is wrong with them.

    Args:
        artifact: A sound one.
        outside: A file that none of them may read.
    """
    models = foreign_files(outside) | endless_files() | inconsistent_files()
    built = {name: to_bytes(model) for name, model in models.items()}
    return broken_files(artifact) | built | forged_artifacts(artifact)


def sound_plain_files() -> dict[str, bytes]:
    """Return models that look odd and are sound."""
    scripted = make_function("F0", [node("Neg", "x", "z")])
    return {
        "an LSTM": lstm_model(),
        "text": identity_model(TensorProto.STRING),
        "a function": to_bytes(make_model([node("F0", "x", "y", domain=FOREIGN)],
                                          functions=[scripted])),
        "a branch": to_bytes(in_branch(node("Neg", "x", "z"))),
        "a loop": to_bytes(looping(3)),
    }  # fmt: skip
