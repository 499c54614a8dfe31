import json
import re
from pathlib import Path

import pytest
from httpx import AsyncClient

from app.gateway.problems import PROBLEM_KINDS
from tests.api.raw import FORECAST_PATH


@pytest.fixture
def page() -> str:
    return (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")


def test_every_problem_type_is_on_the_page(page: str) -> None:
    missing = [k.type for k in PROBLEM_KINDS.values() if f"| {k.status} |" not in page]
    missing += [k.type for k in PROBLEM_KINDS.values() if f"`{k.type}`" not in page]
    assert missing == []


async def test_request_of_the_page_works(client: AsyncClient, page: str) -> None:
    found = re.search(r"-d '(.*?)'", page, re.DOTALL)
    assert found is not None
    body = json.loads(found[1])
    forecast = (await client.post(FORECAST_PATH, json=body)).json()["forecasts"][0]
    assert forecast["timestamps"][0] == "2024-01-01"
    assert list(forecast["quantiles"]) == ["0.1", "0.5", "0.9"]
