from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from httpx import AsyncClient
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case, SerializationContext
from schemathesis.specs.openapi.checks import positive_data_acceptance

from app.gateway.drain import Drain
from app.gateway.file_types import MEDIA_TYPES
from app.gateway.main import create_app
from app.gateway.openapi import FORECAST_EXAMPLES
from app.settings import load_settings
from tests.api.raw import FORECAST_PATH
from tests.fakes import FakeRunners, forecaster, make_card

FORECAST_STATUSES = {
    "200", "400", "401", "404", "408", "409", "413", "415", "422", "500", "503", "504",
}  # fmt: skip

application = create_app(
    load_settings(), FakeRunners(forecaster("monthly", 1, make_card())), Drain()
)
_QUICK = settings(
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
_PATIENCE_S = 60
schema = schemathesis.openapi.from_asgi("/openapi.json", application)


@schemathesis.serializer(*(name for name in MEDIA_TYPES if name != "text/csv"))
def to_file(_: SerializationContext, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.fixture
async def document(client: AsyncClient) -> dict[str, Any]:
    content: dict[str, Any] = (await client.get("/openapi.json")).json()
    return content


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@(
    schema.exclude(path_regex="/repository/models/")
    .exclude(tag=["dialects", "streams", "sequences"])
    .parametrize()
)
@settings(_QUICK, max_examples=40)
def test_answers_keep_to_the_document(case: Case[Any]) -> None:
    # What a model takes, such as its horizon, is not in the document: valid data may be refused.
    case.call_and_validate(excluded_checks=[positive_data_acceptance], timeout=_PATIENCE_S)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@schema.include(tag=["dialects", "streams"]).parametrize()
@settings(_QUICK, max_examples=8)
def test_answers_of_dialects_and_streams_keep_to_the_document(case: Case[Any]) -> None:
    case.call_and_validate(excluded_checks=[positive_data_acceptance], timeout=_PATIENCE_S)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@schema.include(path="/v1/models/{model_name}/tag").parametrize()
@settings(_QUICK, max_examples=8)
def test_answers_of_tasks_keep_to_the_document(case: Case[Any]) -> None:
    case.call_and_validate(excluded_checks=[positive_data_acceptance], timeout=_PATIENCE_S)


def test_every_route_for_programs_is_documented(app: FastAPI, document: dict[str, Any]) -> None:
    templates = {getattr(route, "path", "") for route in app.routes}
    pages = {"/", "/docs", "/openapi.json", "/assets/{asset_name}"}
    assert document["paths"].keys() == templates - pages


def test_forecasts_declare_every_status(document: dict[str, Any]) -> None:
    declared = document["paths"]["/v1/models/{model_name}/forecast"]["post"]["responses"]
    assert declared.keys() == FORECAST_STATUSES


def test_tasks_declare_every_status(document: dict[str, Any]) -> None:
    declared = document["paths"]["/v1/models/{model_name}/versions/{model_version}/tag"]["post"]
    assert declared["responses"].keys() == FORECAST_STATUSES
    sequences = document["components"]["schemas"]["TaskRequest"]["properties"]["sequences"]
    assert (sequences["minItems"], sequences["maxItems"]) == (1, 1000)


def test_requests_are_documented_by_what_decodes_them(document: dict[str, Any]) -> None:
    series = document["components"]["schemas"]["Series"]
    assert series["additionalProperties"] is False
    assert series["required"] == ["target"]


def test_keys_are_declared_where_they_are_needed(document: dict[str, Any]) -> None:
    paths = document["paths"]
    assert {"bearer": []} in paths["/v1/models/{model_name}/forecast"]["post"]["security"]
    assert "security" not in paths["/livez"]["get"]


@pytest.mark.parametrize("name", FORECAST_EXAMPLES)
async def test_examples_work_as_given(client: AsyncClient, name: str) -> None:
    body = FORECAST_EXAMPLES[name]["value"]
    answer = await client.post(FORECAST_PATH, json=body)
    assert answer.status_code == 200
    assert "quantiles" in answer.json()["forecasts"][0]
