"""Reads what a model file is made of before ONNX Runtime does, and refuses what it may not hold.

A served model is one file of standard operators. Refused are tensors that lie in other files,
operators of other domains (they are code of other makers, and some open files), training steps, and
graphs and functions nested so that walking or unfolding them would not end. The field numbers are
those of onnx.proto.
"""

from collections import defaultdict

from app.errors import ArtifactError
from app.runner.protobuf import Value, read_fields

MAX_DEPTH = 32
"""Of graphs in graphs, and of functions that call functions."""
MAX_NODES = 1_000_000
"""In a model whose functions are unfolded."""

_Operator = tuple[str, str]
"""Domain and name."""

_STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
_MAIN: _Operator = ("", "")

_MESSAGES = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse tensor",
        23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_TRAINING_INFO = 20
_NODE_OPERATOR, _NODE_DOMAIN = 4, 7
_FUNCTION_NAME, _FUNCTION_DOMAIN = 1, 10
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


def check_graph(model: bytes) -> None:
    """Refuse a file that holds, or refers to, what is never served.

    Raises:
        ArtifactError: It does, or it is no ONNX file at all.
    """
    walk = _Walk()
    walk.visit("model", memoryview(model))
    walk.check_calls()


class _Walk:
    """One walk through a file; ``calls`` are the operators that each function's nodes name."""

    def __init__(self) -> None:
        self._calls: defaultdict[_Operator, list[_Operator]] = defaultdict(list)
        self._sizes: dict[_Operator, int] = {}
        self._inside = _MAIN
        self._depth = 0

    def visit(self, kind: str, message: memoryview) -> None:
        """Look at a message and at all messages in it."""
        self._depth += 1
        if self._depth > 4 * MAX_DEPTH:  # graph, node, attribute, tensor
            raise ArtifactError(f"graphs are nested more than {MAX_DEPTH} deep")
        if kind == "function":
            self._enter_function(message)
        elif kind == "node":
            self._note_call(message)
        elif kind == "tensor":
            _check_tensor(message)
        self._visit_inner(kind, message)
        if kind == "function":
            self._inside = _MAIN
        self._depth -= 1

    def check_calls(self) -> None:
        """Refuse foreign operators, and functions that do not end or unfold without measure."""
        functions = self._calls.keys() - {_MAIN}
        for operator in {call for calls in self._calls.values() for call in calls}:
            if operator[0] not in _STANDARD_DOMAINS and operator not in functions:
                name = "::".join(part[:64] for part in operator)
                raise ArtifactError(f"operator {name} is not of the standard ONNX domain")
        if self._size_of(_MAIN, 0) > MAX_NODES:
            raise ArtifactError(f"the model has more than {MAX_NODES} nodes")

    def _visit_inner(self, kind: str, message: memoryview) -> None:
        inner_kinds = _MESSAGES[kind]
        if not inner_kinds:
            return
        for number, value in read_fields(message):
            if kind == "model" and number == _TRAINING_INFO:
                raise ArtifactError("the model holds training steps")
            if inner_kind := inner_kinds.get(number):
                self.visit(inner_kind, _bytes_of(value))

    def _enter_function(self, message: memoryview) -> None:
        function = _read_operator(message, _FUNCTION_DOMAIN, _FUNCTION_NAME)
        if function[0] in _STANDARD_DOMAINS:
            raise ArtifactError(f"function {function[1][:64]} is in the standard ONNX domain")
        self._inside = function
        self._calls[function]  # may stay empty

    def _note_call(self, message: memoryview) -> None:
        self._calls[self._inside].append(_read_operator(message, _NODE_DOMAIN, _NODE_OPERATOR))

    def _size_of(self, function: _Operator, depth: int) -> int:
        if depth > MAX_DEPTH:
            raise ArtifactError(f"functions call each other more than {MAX_DEPTH} deep")
        if function not in self._sizes:
            self._sizes[function] = sum(
                self._size_of(call, depth + 1) if call in self._calls else 1
                for call in self._calls[function]
            )
        return self._sizes[function]


def _read_operator(message: memoryview, domain_number: int, name_number: int) -> _Operator:
    """Read domain and name; a field that is repeated to say two things is refused."""
    found: dict[int, bytes] = {}
    for number, value in read_fields(message):
        if number in (domain_number, name_number):
            text = bytes(_bytes_of(value))
            if found.setdefault(number, text) != text:
                raise ArtifactError("not an ONNX file: an operator has two names")
    domain, name = (
        found.get(number, b"").decode(errors="replace") for number in (domain_number, name_number)
    )
    return domain, name


def _check_tensor(message: memoryview) -> None:
    for number, value in read_fields(message):
        if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0):
            raise ArtifactError("a tensor's numbers lie in another file; a model must be one file")


def _bytes_of(value: Value) -> memoryview:
    if isinstance(value, int):
        raise ArtifactError("not an ONNX file: a field has the wrong type")
    return value
