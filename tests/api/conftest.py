from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.gateway.drain import Drain
from app.gateway.main import create_app
from app.gateway.runners import ModelVersion
from app.settings import Settings, load_settings
from tests.fakes import FakeRunners, forecaster, make_card


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(model_repository=tmp_path, max_body_bytes=2**20, max_series=1000)


@pytest.fixture
def runners() -> FakeRunners:
    covariates: dict[str, Any] = {
        "past_covariates": ("price",),
        "future_covariates": ("holiday", "promo/week"),
        "static_covariates": ("size",),
    }
    return FakeRunners(
        forecaster("monthly", 1, make_card(horizon=3)),
        forecaster("monthly", 2, make_card()),
        ModelVersion("monthly", 3, None, "damaged: the file does not match the digest inside it"),
        forecaster("free", 1, make_card(freq=None)),
        forecaster("shop", 1, make_card(**covariates)),
        ModelVersion("broken", 1, None, "not a gatecast artifact"),
    )


@pytest.fixture
def drain() -> Drain:
    return Drain()


@pytest.fixture
def app(settings: Settings, runners: FakeRunners, drain: Drain) -> FastAPI:
    return create_app(settings, runners, drain)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gatecast") as client:
        yield client
