"""Models that classify, regress and tag, over HTTP."""

import gzip
import json
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from numpy.typing import NDArray

from app.artifact.sequence_card import SequenceTask
from app.errors import DeadlineExceededError, OverloadedError
from app.gateway.drain import Drain
from app.gateway.main import create_app
from app.gateway.task_routes import TASKS
from app.gateway.task_schemas import ClassifyResponse, RegressResponse, TagResponse
from app.runner.engine import OrtEngine
from app.settings import load_settings
from tests.api.raw import call
from tests.fakes import FakeRunners, forecaster, make_card, make_sequence_card, served
from tests.tiny_sequence_model import tiny_sequence_model

FLOAT32_TOLERANCE = 1e-6
"""Absolute: of probabilities whose sum is rounded to 32 bits."""

BATCH_TOLERANCE = 1e-5
"""Relative: what the project promises for an answer in company against one alone."""

PATHS = {task: f"/v1/models/{task}/{task}" for task in TASKS}
RESPONSES: Mapping[SequenceTask, Any] = {
    "classify": ClassifyResponse,
    "regress": RegressResponse,
    "tag": TagResponse,
}
CLASSES = ["low", "normal", "high"]
VALUES = [[0.5, 20], [None, 22.5], [-1, None]]
ONE = {"sequences": [{"item_id": "a", "values": VALUES}]}


@pytest.fixture(scope="module")
def engines() -> dict[str, OrtEngine]:
    engines = {
        name: OrtEngine.from_bytes(tiny_sequence_model(task), "cpu")
        for name, task in [*zip(TASKS, TASKS, strict=True), ("labelled", "classify")]
    }
    return engines | {"single": OrtEngine.from_bytes(tiny_sequence_model("tag", ("load",)), "cpu")}


def make_runners(engines: dict[str, OrtEngine]) -> FakeRunners:
    versions = [served(name, 1, engine.sequence_card) for name, engine in engines.items()]
    return FakeRunners(*versions, forecaster("monthly", 1, make_card()), engines=engines)


@pytest.fixture(scope="module")
def app(engines: dict[str, OrtEngine]) -> FastAPI:
    limits = load_settings(max_body_bytes=2**20, max_series=1000)
    return create_app(limits, make_runners(engines), Drain())


@pytest.fixture
def runners(engines: dict[str, OrtEngine]) -> FakeRunners:
    return make_runners(engines)


def outputs_of(prediction: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the numbers of one answer, classes or targets on axis 0."""
    return np.array([*(prediction.get("probabilities") or prediction["values"]).values()])


@pytest.mark.parametrize("task", TASKS)
async def test_answer_matches_its_documented_form(client: AsyncClient, task: SequenceTask) -> None:
    body = {"sequences": [{"item_id": "a", "values": VALUES}, {"values": []}, {"values": VALUES}]}
    answer = await client.post(PATHS[task], json=body)
    decoded = msgspec.json.decode(answer.content, type=RESPONSES[task])
    assert (decoded.model_name, decoded.model_version) == (task, 1)
    assert [one.item_id for one in decoded.predictions] == ["a", msgspec.UNSET, msgspec.UNSET]
    assert decoded.predictions[1].error.pointer == "/sequences/1/values"


async def test_class_is_the_likeliest(client: AsyncClient, engines: dict[str, OrtEngine]) -> None:
    (prediction,) = (await client.post(PATHS["classify"], json=ONE)).json()["predictions"]
    sequence = np.array([VALUES], np.float32)
    inputs = {"sequence": sequence, "sequence_lens": np.array([3], np.int32)}
    want = engines["classify"].run(inputs, ["probabilities"])["probabilities"][0]
    assert list(prediction["probabilities"]) == CLASSES
    assert outputs_of(prediction).tolist() == pytest.approx(want.tolist())
    assert prediction["class"] == CLASSES[int(want.argmax())]


async def test_every_step_is_tagged(client: AsyncClient) -> None:
    (prediction,) = (await client.post(PATHS["tag"], json=ONE)).json()["predictions"]
    probabilities = outputs_of(prediction)
    assert probabilities.shape == (3, len(VALUES))
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=FLOAT32_TOLERANCE)
    assert prediction["classes"] == [CLASSES[place] for place in probabilities.argmax(axis=0)]


async def test_values_come_by_target(client: AsyncClient) -> None:
    (prediction,) = (await client.post(PATHS["regress"], json=ONE)).json()["predictions"]
    assert prediction.keys() == {"item_id", "values"}
    assert list(prediction["values"]) == ["cost", "wear"]


@pytest.mark.parametrize("task", TASKS)
async def test_sequences_of_one_request_are_answered_as_alone(
    client: AsyncClient, task: SequenceTask
) -> None:
    random = np.random.default_rng(2)
    sequences = [
        {"item_id": str(n), "values": random.normal(size=(n, 2)).tolist()}
        for n in (40, 3, 17, 1, 29, 3)
    ]
    answer = await client.post(PATHS[task], json={"sequences": sequences})
    for sequence, got in zip(sequences, answer.json()["predictions"], strict=True):
        alone = await client.post(PATHS[task], json={"sequences": [sequence]})
        (want,) = alone.json()["predictions"]
        assert (got["item_id"], got.get("class")) == (sequence["item_id"], want.get("class"))
        np.testing.assert_allclose(outputs_of(got), outputs_of(want), rtol=BATCH_TOLERANCE)


async def test_request_is_cut_into_chunks_of_similar_lengths(runners: FakeRunners) -> None:
    limits = load_settings(max_batch_size=4, max_batch_steps=60, max_padding_share=0.25)
    lengths = [1, 40, 10, 11, 39, 12, 12, 12, 2, 1]
    body = {"sequences": [{"values": [[1, 2]] * length} for length in lengths]}
    app = create_app(limits, runners, Drain())
    answer = await call(app, [msgspec.json.encode(body)], path=PATHS["tag"])
    shapes = [inference.inputs["sequence"].shape for inference in runners.inferences]
    tagged = [len(one["classes"]) for one in json.loads(answer.body)["predictions"]]
    assert tagged == lengths
    assert all(rows <= 4 and (rows == 1 or rows * time <= 60) for rows, time, _ in shapes)


async def test_features_by_name_are_put_in_order(client: AsyncClient) -> None:
    columns = {"heat": [20, 22.5, None], "load": [0.5, None, -1]}
    by_name = await client.post(PATHS["tag"], json={"sequences": [{"features": columns}]})
    by_step = await client.post(PATHS["tag"], json={"sequences": [{"values": VALUES}]})
    assert by_name.status_code == 200
    assert by_name.content == by_step.content


async def test_one_feature_may_come_as_numbers_alone(client: AsyncClient) -> None:
    flat, nested = [
        await client.post("/v1/models/single/tag", json={"sequences": [{"values": values}]})
        for values in ([1, None, 3], [[1], [None], [3]])
    ]
    assert flat.status_code == 200
    assert flat.content == nested.content


REFUSED = {
    "no fields": ("{}", "", "sequences"),
    "no sequences": ('{"sequences": []}', "/sequences", ">= 1"),
    "unknown field": ('{"sequences": [{"values": [[1, 2]]}], "horizon": 3}', "/horizon", "unknown"),
    "neither": ('{"sequences": [{"item_id": "a"}]}', "/sequences/0", "either values or features"),
    "both": (
        '{"sequences": [{"values": [[1, 2]], "features": {"load": [1], "heat": [2]}}]}',
        "/sequences/0",
        "either values or features",
    ),
    "no steps": ('{"sequences": [{"values": []}]}', "/sequences/0/values", "at least 1 step"),
    "empty step": ('{"sequences": [{"values": [[]]}]}', "/sequences/0/values/0", "2 numbers"),
    "no steps by name": (
        '{"sequences": [{"features": {"load": [], "heat": []}}]}',
        "/sequences/0/features",
        "at least 1 step",
    ),
    "nothing but null": (
        '{"sequences": [{"values": [[null, null]]}]}',
        "/sequences/0/values",
        "not null",
    ),
    "too many steps": (
        json.dumps({"sequences": [{"values": [[1, 2]] * 49}]}),
        "/sequences/0/values",
        "at most 48",
    ),
    "numbers alone": ('{"sequences": [{"values": [1, 2]}]}', "/sequences/0/values/0", "2 numbers"),
    "short step": (
        '{"sequences": [{"values": [[1, 2], [3]]}]}',
        "/sequences/0/values/1",
        "2 numbers",
    ),
    "null step": (
        '{"sequences": [{"values": [[1, 2], null]}]}',
        "/sequences/0/values/1",
        "2 numbers",
    ),
    "string": (
        '{"sequences": [{"values": [[1, "2"]]}]}',
        "/sequences/0/values/0/1",
        "number or null",
    ),
    "string for a step": (
        '{"sequences": [{"values": ["12"]}]}',
        "/sequences/0/values/0",
        "number, array or null",
    ),
    "NaN": ('{"sequences": [{"values": [[1, NaN]]}]}', "/sequences/0/values/0/1", "use null"),
    "too large": (
        '{"sequences": [{"values": [[1, 2], [1, -1e31]]}]}',
        "/sequences/0/values/1/1",
        "1e+30",
    ),
    "1e400": ('{"sequences": [{"values": [[1e400, 2]]}]}', "/sequences/0/values/0/0", "1e+30"),
    "unknown feature": (
        '{"sequences": [{"features": {"load": [1], "heat": [1], "x": [1]}}]}',
        "/sequences/0/features",
        "exactly load, heat",
    ),
    "features of two lengths": (
        '{"sequences": [{"features": {"load": [1, 2], "heat": [1]}}]}',
        "/sequences/0/features/heat",
        "2 values",
    ),
    "string in a feature": (
        '{"sequences": [{"features": {"load": [1], "heat": [true]}}]}',
        "/sequences/0/features/heat/0",
        "number or null",
    ),
    "too large in a feature": (
        '{"sequences": [{"features": {"load": [1, 1e31], "heat": [1, 2]}}]}',
        "/sequences/0/features/load/1",
        "1e+30",
    ),
    "too many sequences": (
        json.dumps({"sequences": [{"values": [[1, 2]]}] * 1001}),
        "/sequences",
        "at most 1000",
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
async def test_fault_is_pointed_to(client: AsyncClient, case: tuple[str, str, str]) -> None:
    body, pointer, text = case
    headers = {"content-type": "application/json"}
    answer = await client.post(PATHS["classify"], content=body, headers=headers)
    problem = answer.json()
    assert answer.status_code == problem["status"] == 422
    assert problem["errors"][0]["pointer"] == pointer
    assert text in problem["detail"]


@pytest.mark.parametrize("wrong", [[3], []], ids=["list", "empty list"])
async def test_list_among_numbers_is_pointed_to(client: AsyncClient, wrong: list[int]) -> None:
    body = {"sequences": [{"values": [1, None, wrong, 2]}]}
    problem = (await client.post("/v1/models/single/tag", json=body)).json()
    assert problem["errors"][0]["pointer"] == "/sequences/0/values/2"
    assert "must be a number" in problem["detail"]


async def test_every_wrong_sequence_is_listed(client: AsyncClient) -> None:
    body = {"sequences": [{"values": []}, {"values": [[1]]}]}
    problem = (await client.post(PATHS["tag"], json=body)).json()
    assert problem["type"] == "invalid-series"
    assert [error["pointer"] for error in problem["errors"]] == [
        "/sequences/0/values",
        "/sequences/1/values/0",
    ]


async def test_steps_are_limited_by_what_they_are_answered_with(runners: FakeRunners) -> None:
    app = create_app(load_settings(max_steps=90), runners, Drain())
    body = msgspec.json.encode({"sequences": [{"values": [[1, 2]] * 31}]})
    answers = [await call(app, [body], path=PATHS[task]) for task in TASKS]
    assert [answer.status for answer in answers] == [200, 200, 422]
    assert "at most 30 steps" in json.loads(answers[2].body)["detail"]


@pytest.mark.parametrize("task", TASKS)
async def test_another_task_is_refused_and_told_where_to_go(
    client: AsyncClient, task: SequenceTask
) -> None:
    other = TASKS[TASKS.index(task) - 1]
    for path in (f"/v1/models/{task}/{other}", f"/v1/models/{task}/versions/1/{other}"):
        answer = await client.post(path, json=ONE)
        assert (answer.status_code, answer.json()["type"]) == (409, "wrong-task")
        assert f"/v1/models/{task}/{task}" in answer.json()["detail"]


async def test_forecaster_has_no_sequences(client: AsyncClient) -> None:
    answer = await client.post("/v1/models/monthly/classify", json=ONE)
    assert (answer.status_code, answer.json()["type"]) == (409, "wrong-task")
    assert "/v1/models/monthly/forecast" in answer.json()["detail"]


FORECASTS = {
    "native": ("POST", "/v1/models/tag/forecast", b'{"series": [{"target": [1]}]}'),
    "file": ("POST", "/v1/models/tag/forecast", b"unique_id,ds,y\na,2024-01-01,1\n"),
    "stream": ("PUT", "/v1/models/tag/streams/a", b'{"target": [1]}'),
    "kserve": ("POST", "/v1/models/tag:predict", b'{"instances": [{"target": [1]}]}'),
    "timegpt": (
        "POST",
        "/v2/forecast",
        b'{"model": "tag", "freq": "MS", "h": 1, "series": {"y": [1], "sizes": [1]}}',
    ),
}


@pytest.mark.parametrize("case", FORECASTS.values(), ids=FORECASTS)
async def test_nothing_makes_forecasts_with_it(
    client: AsyncClient, case: tuple[str, str, bytes]
) -> None:
    method, path, body = case
    kind = "application/json" if body.startswith(b"{") else "text/csv"
    answer = await client.request(method, path, content=body, headers={"content-type": kind})
    assert answer.status_code == 409
    assert "/v1/models/tag/tag" in answer.text


async def test_forecast_dialects_do_not_list_it(client: AsyncClient) -> None:
    for path in ("/v1/timeseries/models", "/v2/models"):
        answer = await client.get(path)
        assert answer.status_code == 200
        assert "monthly" in answer.text
        assert "classify" not in answer.text


@pytest.mark.parametrize("task", TASKS)
async def test_answer_is_that_of_the_documented_route(app: FastAPI, task: SequenceTask) -> None:
    body, charset = [json.dumps(ONE).encode()], {"content-type": "application/json; charset=utf-8"}
    for path in (PATHS[task], f"/v1/models/{task}/versions/1/{task}"):
        direct = await call(app, body, path=path)
        documented = await call(app, body, charset, path=path)
        assert (direct.status, direct.body) == (200, documented.body)


async def test_models_are_described_by_their_task(client: AsyncClient) -> None:
    models = (await client.get("/v1/models")).json()["models"]
    listed = {model["model_name"]: model for model in models}
    tasks = {"labelled": "classify", "single": "tag", "monthly": "forecast"}
    tasks |= {task: task for task in TASKS}
    assert {name: model["task"] for name, model in listed.items()} == tasks
    assert [listed[name]["makes_forecasts"] for name in ("tag", "monthly")] == [False, True]
    classify = listed["classify"]
    assert (classify["classes"], classify["pooling"]) == (CLASSES, "last")
    assert (classify["features"], classify["max_length"]) == (["load", "heat"], 48)
    assert listed["regress"]["targets"] == ["cost", "wear"]
    card = (await client.get("/v1/models/classify")).json()["card"]
    assert (card["task"], card["accuracy"][0]["baseline_value"]) == ("classify", 0.4)


async def test_index_of_the_repository_names_the_task(client: AsyncClient) -> None:
    index = (await client.post("/v2/repository/index", json={})).json()
    assert {entry["name"]: entry["task"] for entry in index}["single"] == "tag"


async def test_tensors_work_too(client: AsyncClient) -> None:
    metadata = (await client.get("/v2/models/tag")).json()
    assert metadata["inputs"][0] == {"name": "sequence", "datatype": "FP32", "shape": [-1, -1, 2]}
    assert metadata["outputs"][0]["shape"] == [-1, -1, 3]
    data = [0.5, 20, None, 22.5, -1, None]
    tensor = {"name": "sequence", "datatype": "FP32", "shape": [1, 3, 2], "data": data}
    answer = await client.post("/v2/models/tag/infer", json={"inputs": [tensor]})
    (native,) = (await client.post(PATHS["tag"], json=ONE)).json()["predictions"]
    (output,) = answer.json()["outputs"]
    assert output["shape"] == [1, 3, 3]
    np.testing.assert_allclose(
        np.reshape(output["data"], (3, 3)), outputs_of(native).T, rtol=BATCH_TOLERANCE
    )


async def test_compressed_bodies_are_read(client: AsyncClient) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    content = gzip.compress(json.dumps(ONE).encode())
    answer = await client.post(PATHS["regress"], content=content, headers=headers)
    assert answer.status_code == 200


async def test_other_bodies_are_refused(client: AsyncClient) -> None:
    answer = await client.post(
        PATHS["regress"], content=b"1,2", headers={"content-type": "text/csv"}
    )
    assert (answer.status_code, answer.json()["type"]) == (415, "unsupported-media-type")


async def test_large_body_is_refused(app: FastAPI) -> None:
    answer = await call(app, [b" " * 2**20] * 3, path=PATHS["classify"])
    assert (answer.status, answer.num_chunks_read) == (413, 2)


@pytest.mark.parametrize(
    ("error", "status"),
    [(OverloadedError("full"), 503), (DeadlineExceededError("late"), 504)],
    ids=["overloaded", "late"],
)
async def test_failing_run_is_a_problem(
    runners: FakeRunners, error: Exception, status: int
) -> None:
    runners.error = error
    app = create_app(load_settings(), runners, Drain())
    answer = await call(app, [json.dumps(ONE).encode()], path=PATHS["classify"])
    assert answer.status == status


async def test_no_body_is_read_while_the_caller_is_refused(runners: FakeRunners) -> None:
    runners.room_error = OverloadedError("full")
    answer = await call(create_app(load_settings(), runners, Drain()), [b"{}"], path=PATHS["tag"])
    assert (answer.status, answer.num_chunks_read) == (503, 0)


async def test_timeout_of_the_request_counts(runners: FakeRunners) -> None:
    runners.gate.clear()
    app = create_app(load_settings(), runners, Drain())
    body, headers = [json.dumps(ONE).encode()], {"x-request-timeout-ms": "20"}
    answer = await call(app, body, headers, path=PATHS["classify"])
    assert (answer.status, runners.num_running) == (504, 0)


async def test_large_answers_are_written_off_the_loop(client: AsyncClient) -> None:
    body = {"sequences": [{"values": [[1, n]] * 48} for n in range(100)]}
    answer = await client.post(PATHS["tag"], json=body)
    decoded = msgspec.json.decode(answer.content, type=TagResponse)
    assert {len(one.classes or ()) for one in decoded.predictions} == {48}


@pytest.mark.parametrize(
    "changes",
    [
        {"features": ()},
        {"features": ("load", "load")},
        {"classes": ()},
        {"targets": ("cost",)},
        {"pooling": None},
        {"inputs": ()},
        {"outputs": make_sequence_card("tag").outputs},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_card_must_agree_with_its_task(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|has a pooling"):
        make_sequence_card("classify", **changes)
