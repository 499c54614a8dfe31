import numpy as np
import pytest

from app.errors import ArtifactError
from app.runner.engine import OrtEngine
from tests.export.exported import Exported

_NUM_PLACES = 150


def test_flipped_bits_are_noticed_everywhere(exported: Exported) -> None:
    places = np.linspace(0, len(exported.model) - 1, _NUM_PLACES, dtype=int)

    for number, place in enumerate(places):
        damaged = bytearray(exported.model)
        damaged[place] ^= 1 << number % 8
        with pytest.raises(ArtifactError) as refusal:
            OrtEngine.from_bytes(bytes(damaged), "cpu")
        assert "\n" not in str(refusal.value)


def test_truncation_is_noticed_everywhere(exported: Exported) -> None:
    for size in np.linspace(0, len(exported.model) - 1, _NUM_PLACES, dtype=int):
        with pytest.raises(ArtifactError) as refusal:
            OrtEngine.from_bytes(exported.model[:size], "cpu")
        assert "\n" not in str(refusal.value)


def test_bytes_after_the_end_are_noticed(exported: Exported) -> None:
    with pytest.raises(ArtifactError):
        OrtEngine.from_bytes(exported.model + b"\x00", "cpu")
