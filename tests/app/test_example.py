"""The first request that a user is shown."""

from typing import Any

import msgspec
import pytest

from app.example import example_request
from app.gateway.decoding import decode_request
from app.gateway.preparation import prepare_request
from app.runner.engine import OrtEngine
from app.settings import Settings
from tests.tiny_artifact import WITH_COVARIATES, tiny_artifact


@pytest.mark.parametrize("overrides", [{}, WITH_COVARIATES], ids=["plain", "covariates"])
def test_every_model_accepts_its_example(overrides: dict[str, Any]) -> None:
    card = OrtEngine.from_bytes(tiny_artifact(**overrides), "cpu").card
    request = decode_request(msgspec.json.encode(example_request(card)))
    prepared = prepare_request(request, card, Settings(), max_horizon=card.horizon)
    assert len(prepared.rows) == 1
    assert not prepared.refusals
