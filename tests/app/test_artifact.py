"""Card, golden case and digest."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from app.artifact.directory import find_versions
from app.artifact.golden_case import GoldenCase, TensorValue, relative_error
from app.artifact.metadata import CARD_KEY, load_card
from app.artifact.seal import DIGEST_KEY, check_seal, seal
from app.artifact.specs import StateSpec
from app.errors import ArtifactError
from tests.e2e.service import write_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNSEALED = b"before\x0a\x0f" + DIGEST_KEY.encode() + b"\x12\x40" + b"0" * 64 + b"after"


def test_sealed_bytes_are_recognised() -> None:
    assert len(check_seal(seal(UNSEALED))) == 64


def test_any_changed_byte_breaks_the_seal() -> None:
    sealed = seal(UNSEALED)
    for position in range(len(sealed)):
        changed = sealed[:position] + bytes([sealed[position] ^ 1]) + sealed[position + 1 :]
        with pytest.raises(ArtifactError):
            check_seal(changed)


def test_bytes_without_a_digest_are_not_an_artifact() -> None:
    with pytest.raises(ArtifactError, match="no digest inside"):
        check_seal(b"some other file")


def test_two_digests_are_not_an_artifact() -> None:
    with pytest.raises(ArtifactError, match="exactly one digest"):
        seal(UNSEALED + UNSEALED)


def test_missing_card_is_named() -> None:
    with pytest.raises(ArtifactError, match=r"no gatecast\.card"):
        load_card({})


def test_wrong_card_is_one_line_that_names_the_place() -> None:
    with pytest.raises(ArtifactError, match="is not of this format: format_version") as caught:
        load_card({CARD_KEY: '{"format_version": 2}'})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.bool_])
def test_tensor_values_come_back_bit_for_bit(dtype: type) -> None:
    array: NDArray[Any] = np.array([[0, 1], [2, 3]], dtype)
    value = TensorValue.from_array("x", array)
    np.testing.assert_array_equal(value.to_array(), array)
    assert value.to_array().dtype == array.dtype


def test_golden_case_refuses_other_numbers() -> None:
    outputs = {"quantiles": np.array([[1.0, 2.0]], np.float32)}
    case = GoldenCase.from_tensors({"past_target": np.ones((1, 2), np.float32)}, outputs)
    case.check(outputs)
    with pytest.raises(ArtifactError, match="quantiles is off by"):
        case.check({"quantiles": outputs["quantiles"] * np.float32(1.001)})
    with pytest.raises(ArtifactError, match="missing or misshapen"):
        case.check({})


@pytest.mark.parametrize(
    ("got", "want", "error"),
    [
        ([[100.0, 1.0]], [[100.0, 1.0]], 0.0),
        ([[101.0, 1.0]], [[100.0, 1.0]], 0.01),
        ([[100.0, 1.1]], [[100.0, 1.0]], 0.01),
        ([[np.nan, 1.0]], [[np.nan, 1.0]], 0.0),
        ([[np.nan, 1.0]], [[1.0, 1.0]], np.inf),
    ],
    ids=["equal", "large number", "small beside large", "both missing", "one missing"],
)
def test_relative_error(got: list[list[float]], want: list[list[float]], error: float) -> None:
    assert relative_error(np.array(got), np.array(want)) == pytest.approx(error)


def test_initial_state_is_filled_with_its_value() -> None:
    spec = StateSpec(name="s", next_name="t", datatype="FP32", shape=(3,), initial=None)
    assert np.isnan(spec.initial_tensor(2)).all()
    assert spec.initial_tensor(2).shape == (2, 3)


def test_versions_are_ordered_as_numbers_and_only_whole_ones_count(tmp_path: Path) -> None:
    for version in (10, 9, 1):
        write_model(tmp_path, b"", "m", version)
    (tmp_path / "m" / "11").mkdir()
    (tmp_path / "m" / "012").mkdir()
    (tmp_path / "m" / "draft").mkdir()
    assert find_versions(tmp_path / "m") == [1, 9, 10]
    assert find_versions(tmp_path / "none") == []
