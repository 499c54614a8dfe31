"""The routes that classify, regress and tag, and how they are documented."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import msgspec
from fastapi import FastAPI
from starlette.responses import Response

from app.artifact.sequence_card import SequenceTask
from app.gateway.bodies import Bodies
from app.gateway.catalog import Catalog
from app.gateway.openapi import FORECAST_STATUSES, SCHEMA, problem_responses
from app.gateway.task_schemas import ClassifyResponse, RegressResponse, TagResponse, TaskRequest
from app.gateway.task_service import TaskService
from app.gateway.tasks import TaskEndpoints
from app.settings import Settings

Json = dict[str, Any]

TASKS: tuple[SequenceTask, ...] = get_args(SequenceTask)
TASKS_TAG = {
    "name": "sequences",
    "description": "Sequences in; a class, numbers, or a class of each step out.",
}

_RESPONSES: Mapping[SequenceTask, type[msgspec.Struct]] = {
    "classify": ClassifyResponse,
    "regress": RegressResponse,
    "tag": TagResponse,
}
TASK_SCHEMAS: Sequence[type[msgspec.Struct]] = (TaskRequest, *_RESPONSES.values())

_SUMMARIES: Mapping[SequenceTask, str] = {
    "classify": "Find the class of each sequence",
    "regress": "Find numbers that belong to each sequence",
    "tag": "Find the class of each step of each sequence",
}
_WRONG_TASK = "The task of the model is another, or it is served as tensors, below `/v2`."

_EXAMPLES: Json = {
    "one feature": {
        "summary": "Two sequences of different lengths, with a missing value",
        "value": {
            "sequences": [
                {"item_id": "A-17", "values": [0.1, 0.4, None, 0.3]},
                {"item_id": "B-2", "values": [1.2, 0.9]},
            ]
        },
    },
    "several features": {
        "summary": "One sequence of a model of two features, step by step",
        "value": {"sequences": [{"item_id": "A-17", "values": [[0.1, 20], [0.4, None]]}]},
    },
    "features by name": {
        "summary": "The same sequence, feature by feature",
        "value": {
            "sequences": [{"item_id": "A-17", "features": {"load": [0.1, 0.4], "heat": [20, None]}}]
        },
    },
}


def make_task_endpoints(
    service: TaskService, catalog: Catalog, bodies: Bodies, settings: Settings
) -> dict[SequenceTask, TaskEndpoints]:
    """Return what answers each task."""
    return {task: TaskEndpoints(task, service, catalog, bodies, settings) for task in TASKS}


def add_task_routes(app: FastAPI, endpoints: Mapping[SequenceTask, TaskEndpoints]) -> None:
    """Add the routes of all tasks."""
    for task, endpoint in endpoints.items():
        add_route = functools.partial(
            app.add_api_route,
            methods=["POST"],
            tags=["sequences"],
            summary=_SUMMARIES[task],
            response_class=Response,
            response_model=None,
            responses=_responses(task),
            openapi_extra=_request_body(),
        )
        path = "/v1/models/{model_name}"
        add_route(f"{path}/{task}", endpoint.answer_default, operation_id=task)
        add_route(
            f"{path}/versions/{{model_version}}/{task}",
            endpoint.answer_version,
            operation_id=f"{task}_version",
        )


def _responses(task: SequenceTask) -> dict[int | str, Json]:
    schema = {"$ref": SCHEMA.format(name=_RESPONSES[task].__name__)}
    description = "Answers, or errors of single sequences, in the order of the request."
    success: dict[int | str, Json] = {
        200: {"description": description, "content": {"application/json": {"schema": schema}}}
    }
    problems = problem_responses(FORECAST_STATUSES)
    problems[409]["description"] = _WRONG_TASK
    return success | problems


def _request_body() -> Json:
    schema = {"$ref": SCHEMA.format(name=TaskRequest.__name__)}
    content = {"application/json": {"schema": schema, "examples": _EXAMPLES}}
    return {"requestBody": {"required": True, "content": content}}
