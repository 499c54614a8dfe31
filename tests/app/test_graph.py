"""What a model file may be made of."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ArtifactError
from app.runner.graph import check_graph
from app.runner.protobuf import read_fields
from tests.hostile_models import (
    broken_files,
    calling_functions,
    field,
    foreign_files,
    nested_graphs,
    sound_plain_files,
    to_bytes,
    varint,
)
from tests.tiny_artifact import tiny_artifact

FOREIGN = {name: to_bytes(model) for name, model in foreign_files("/outside").items()}
SOUND = sound_plain_files()
BROKEN = broken_files(b"\x08\x0a" + field(7, b"") + field(14, bytes(20)))
LEFT_TO_ONNX_RUNTIME = {
    "an operator that does not exist",
    "an artifact twice",
    "another format in an ONNX file",
    "no graph",
    "nothing",
}


@pytest.mark.parametrize("name", sorted(FOREIGN.keys() - LEFT_TO_ONNX_RUNTIME))
def test_what_is_foreign_is_refused(name: str) -> None:
    with pytest.raises(ArtifactError, match=r"another file|standard ONNX domain|training"):
        check_graph(FOREIGN[name])


@pytest.mark.parametrize("name", sorted(BROKEN.keys() - LEFT_TO_ONNX_RUNTIME))
def test_what_is_no_model_is_refused(name: str) -> None:
    with pytest.raises(ArtifactError, match=r"not an ONNX file|nested"):
        check_graph(BROKEN[name])


@pytest.mark.parametrize("name", SOUND)
def test_sound_models_pass(name: str) -> None:
    check_graph(SOUND[name])


def test_artifact_passes() -> None:
    check_graph(tiny_artifact())


def test_graphs_may_be_nested_a_little() -> None:
    check_graph(nested_graphs(20))


@pytest.mark.parametrize(
    "calls",
    [
        {"F0": ["F0"]},
        {"F0": ["F1"], "F1": ["F0"]},
        {f"F{n}": [f"F{n + 1}"] for n in range(100)} | {"F100": []},
    ],
    ids=["itself", "each other", "in a row"],
)
def test_functions_that_call_without_end_are_refused(calls: dict[str, list[str]]) -> None:
    with pytest.raises(ArtifactError, match="call each other more than 32 deep"):
        check_graph(to_bytes(calling_functions(calls)))


def test_functions_that_unfold_without_measure_are_refused() -> None:
    calls = {f"F{n}": [f"F{n + 1}"] * 10 for n in range(7)} | {"F7": []}
    with pytest.raises(ArtifactError, match="more than 1000000 nodes"):
        check_graph(to_bytes(calling_functions(calls)))


@pytest.mark.parametrize(
    "tensor",
    [
        field(13, b""),
        varint(14 << 3) + varint(1),
        varint(14 << 3) + varint(2**32 + 1),
        varint(14 << 3) + varint(1) + varint(14 << 3) + varint(0),
        varint(14 << 3) + b"\x81\x00",
        field(14, varint(1)),
    ],
    ids=["entry", "mark", "mark beyond 32 bits", "mark taken back", "long mark", "packed mark"],
)
def test_numbers_elsewhere_are_found_however_they_are_written(tensor: bytes) -> None:
    with pytest.raises(ArtifactError, match="another file"):
        check_graph(field(7, field(5, tensor)))


def test_operator_of_two_domains_is_refused() -> None:
    node = field(4, b"Neg") + field(7, b"com.microsoft") + field(7, b"")
    with pytest.raises(ArtifactError, match="two names"):
        check_graph(field(7, field(1, node)))


def test_second_graph_is_looked_at_as_well() -> None:
    foreign = field(7, field(1, field(4, b"Gelu") + field(7, b"com.microsoft")))
    with pytest.raises(ArtifactError, match=r"com\.microsoft::Gelu"):
        check_graph(field(7, b"") + foreign)


@given(st.lists(st.tuples(st.integers(1, 2**29 - 1), st.integers(0, 2**64 - 1) | st.binary())))
def test_fields_are_read_as_they_were_written(fields: list[tuple[int, int | bytes]]) -> None:
    message = b"".join(
        varint(number << 3) + varint(value) if isinstance(value, int) else field(number, value)
        for number, value in fields
    )
    assert list(read_fields(memoryview(message))) == fields


def test_fixed_fields_are_read() -> None:
    message = memoryview(b"\x0d\x01\x02\x03\x04\x11\x01\x02\x03\x04\x05\x06\x07\x08")
    assert [bytes(v) for _, v in read_fields(message) if not isinstance(v, int)] == [
        bytes(range(1, 5)),
        bytes(range(1, 9)),
    ]


@given(st.binary())
def test_no_bytes_bring_the_reader_down(message: bytes) -> None:
    with contextlib.suppress(ArtifactError):
        check_graph(message)
