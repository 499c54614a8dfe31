"""Bad requests to each dialect: refused with 4xx, in the form that its clients know."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient

from app.errors import EngineError, OverloadedError
from app.gateway.drain import Drain
from app.gateway.main import create_app
from app.keys import create_key
from app.settings import load_settings
from tests.fakes import FakeRunners, forecaster, make_card

Json = Any
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def one_model() -> FakeRunners:
    return FakeRunners(forecaster("monthly", 1, make_card()))


@pytest.fixture
async def caller(one_model: FakeRunners) -> AsyncIterator[AsyncClient]:
    app = create_app(load_settings(max_body_bytes=2**16, max_series=100), one_model, Drain())
    transport = ASGITransport(app)
    async with AsyncClient(transport=transport, base_url="http://gatecast") as client:
        yield client


def is_timegpt(status: int, body: Json) -> bool:
    listed = isinstance(body["detail"], list)
    places = body["detail"] if listed else []
    return (
        body.keys() >= {"data", "message", "details", "code", "requestID", "support"}
        and listed == (status == 422)
        and all(one.keys() == {"type", "loc", "msg"} for one in places)
        and all(one["loc"][0] == "body" for one in places)
    )


def is_sagemaker(status: int, body: Json) -> bool:
    return bool(body.keys() == {"code", "type", "message"} and body["code"] == status)


def is_vertex(status: int, body: Json) -> bool:
    error = body["error"]
    return bool(error.keys() == {"code", "message", "status"} and error["code"] == status)


def is_kserve(_: int, body: Json) -> bool:
    return body.keys() == {"error"} and isinstance(body["error"], str)


def is_kserve_timeseries(status: int, body: Json) -> bool:
    error = body["error"]
    return bool(
        error.keys() == {"code", "message", "param", "type"} and error["code"] == str(status)
    )


BROKEN: dict[str, bytes] = {
    "empty": b"",
    "cut off": b'{"a": [1, 2',
    "not UTF-8": b'{"\xff": 1}',
    "array": b"[1]",
    "string": b'"x"',
    "deep": b'{"a": ' * 50_000,
    "unknown body": b'{"nothing": 1}',
    "too large": b" " * 70_000 + b"{}",
}
"""What is wrong in every dialect."""


def timegpt(*, series: Json = None, without: str = "", **changes: Json) -> Json:
    body = {"series": {"y": [1, 2, 3, 4], "sizes": [4]} | (series or {}), "freq": "MS", "h": 2}
    return {k: v for k, v in (body | changes).items() if k != without}


TIMEGPT: dict[str, Json] = {
    "no h": timegpt(without="h"),
    "no freq": timegpt(without="freq"),
    "no series": timegpt(without="series"),
    "h 0": timegpt(h=0),
    "h beyond the model": timegpt(h=13),
    "h of a half": timegpt(h=1.5),
    "other freq": timegpt(freq="D"),
    "no freq at all": timegpt(freq="soon"),
    "unknown model": timegpt(model="prophet"),
    "level 100": timegpt(level=[100]),
    "level beyond the model": timegpt(level=[80, 81]),
    "level of text": timegpt(level=["80"]),
    "sizes too small": timegpt(series={"sizes": [3]}),
    "size 0": timegpt(series={"sizes": [4, 0]}),
    "string in y": timegpt(series={"y": [1, "2", 3, 4]}),
    "large number in y": timegpt(series={"y": [1, 2, 3, 1e39]}),
    "no value in y": timegpt(series={"y": [None] * 4}),
    "one series without a value": timegpt(series={"y": [1, 2, None, None], "sizes": [2, 2]}),
    "X": timegpt(series={"X": [[1, 2, 3, 4]]}),
    "X_future": timegpt(series={"X_future": [[1, 2]]}),
    "categorical": timegpt(series={"categorical_exog": [0]}),
    "fine-tuning": timegpt(finetune_steps=5),
    "fine-tuned model": timegpt(finetuned_model_id="m"),
    "multivariate": timegpt(multivariate=True),
    "contributions": timegpt(feature_contributions=True),
    "model parameters": timegpt(model_parameters={"a": 1}),
    "unknown field": timegpt(horizon=3),
    "too many series": timegpt(series={"y": [1] * 101, "sizes": [1] * 101}),
}


def deepar(*, configuration: Json = None, **changes: Json) -> Json:
    instance = {"start": "2020-01-01 00:00:00", "target": [1, 2, 3]} | changes
    body: Json = {"instances": [{k: v for k, v in instance.items() if v != "absent"}]}
    return body | ({"configuration": configuration} if configuration else {})


DEEPAR: dict[str, Json] = {
    "no start": deepar(start="absent"),
    "no target": deepar(target="absent"),
    "bad start": deepar(start="soon"),
    "start of a number": deepar(start=2020),
    "empty target": deepar(target=[]),
    "only NaN": deepar(target=["NaN", None]),
    "other string": deepar(target=[1, "nan"]),
    "boolean": deepar(target=[1, True]),
    "large number": deepar(target=[1e39]),
    "cat": deepar(cat=[1]),
    "cat of text": deepar(cat=["a"]),
    "cat beyond all floats": deepar(cat=[10**400]),
    "target beyond all floats": deepar(target=[10**400]),
    "dynamic_feat beyond all floats": deepar(dynamic_feat=[[10**400]]),
    "dynamic_feat": deepar(dynamic_feat=[[1, 2, 3]]),
    "missing in dynamic_feat": deepar(dynamic_feat=[[None]]),
    "unknown field": deepar(freq="M"),
    "no instances": {"instances": []},
    "quantile as a number": deepar(configuration={"quantiles": [0.5]}),
    "quantile of text": deepar(configuration={"quantiles": ["median"]}),
    "quantile 1": deepar(configuration={"quantiles": ["1.0"]}),
    "quantile nan": deepar(configuration={"quantiles": ["nan"]}),
    "quantile beyond the model": deepar(configuration={"quantiles": ["0.95"]}),
    "output type": deepar(configuration={"output_types": ["variance"]}),
    "no samples": deepar(configuration={"num_samples": 0}),
    "many samples": deepar(configuration={"num_samples": 10**9}),
    "both bodies": deepar() | {"inputs": [{"target": [1]}]},
    "parameters beside instances": deepar() | {"parameters": {}},
}


def chronos(*, parameters: Json = None, **changes: Json) -> Json:
    one = {"target": [1, 2, 3]} | changes
    return {"inputs": [one]} | ({"parameters": parameters} if parameters else {})


CHRONOS: dict[str, Json] = {
    "no inputs": {"inputs": []},
    "no target": {"inputs": [{}]},
    "empty target": chronos(target=[]),
    "nested target": chronos(target=[[1, 2], [3, 4]]),
    "string in target": chronos(target=[1, "2"]),
    "start without freq": chronos(start="2020-01-01"),
    "freq without start": chronos(parameters={"freq": "MS"}),
    "bad start": chronos(start="soon", parameters={"freq": "MS"}),
    "other freq": chronos(start="2020-01-01", parameters={"freq": "1h"}),
    "unknown freq": chronos(start="2020-01-01", parameters={"freq": "??"}),
    "length 0": chronos(parameters={"prediction_length": 0}),
    "length beyond the model": chronos(parameters={"prediction_length": 1024}),
    "level 1": chronos(parameters={"quantile_levels": [1]}),
    "level beyond the model": chronos(parameters={"quantile_levels": [0.01]}),
    "no levels": chronos(parameters={"quantile_levels": []}),
    "cross learning": chronos(parameters={"cross_learning": True}),
    "jointly": chronos(parameters={"predict_batches_jointly": True}),
    "batch size 0": chronos(parameters={"batch_size": 0}),
    "unknown parameter": chronos(parameters={"horizon": 3}),
    "unknown field": chronos(name="a"),
    "covariate": chronos(past_covariates={"x": [1, 2, 3]}),
    "covariate of text": chronos(past_covariates={"x": ["a", "b", "c"]}),
    "future without past": chronos(future_covariates={"x": [1]}),
    "configuration beside inputs": chronos() | {"configuration": {}},
}


def instances(*given: Json, **parameters: Json) -> Json:
    body: Json = {"instances": list(given) or [[1, 2, 3]]}
    return body | ({"parameters": parameters} if parameters else {})


INSTANCES: dict[str, Json] = {
    "no instances": {"instances": []},
    "null": {"instances": None},
    "number": {"instances": [1]},
    "text": {"instances": ["a"]},
    "text in values": instances([1, "2"]),
    "nested values": instances([[1], [2]]),
    "empty values": instances([]),
    "no value": instances([None, None]),
    "large number": instances([1e39]),
    "no target": instances({}),
    "unknown field": instances({"target": [1], "key": 1}),
    "bad start": instances({"target": [1], "start": "soon"}),
    "covariate": instances({"target": [1], "past_covariates": {"x": [1]}}),
    "two wrong ones": instances([], [None]),
    "horizon 0": instances(horizon=0),
    "horizon beyond the model": instances(horizon=13),
    "horizon of text": instances(horizon="3"),
    "other freq": instances(freq="D"),
    "level beyond the model": instances(quantile_levels=[0.95]),
    "levels descend": instances(quantile_levels=[0.9, 0.1]),
    "unknown parameter": instances(h=3),
    "too many": {"instances": [[1]] * 101},
}


def timeseries(*, options: Json = None, model: Json = "monthly", **changes: Json) -> Json:
    one = {
        "type": "univariate_time_series",
        "name": "a",
        "series": [1, 2, 3],
        "frequency": "month",
    } | changes
    given = {"horizon": 3} if options is None else options
    return {"model": model, "inputs": [one], "options": given}


KSERVE_TIMESERIES: dict[str, Json] = {
    "no model": timeseries(model=None),
    "unknown model": timeseries(model="other"),
    "no inputs": timeseries() | {"inputs": []},
    "no options": {"model": "monthly", "inputs": timeseries()["inputs"]},
    "no horizon": timeseries(options={}),
    "horizon 0": timeseries(options={"horizon": 0}),
    "horizon beyond the model": timeseries(options={"horizon": 13}),
    "quantile 0": timeseries(options={"horizon": 1, "quantiles": [0]}),
    "quantile twice": timeseries(options={"horizon": 1, "quantiles": [0.5, 0.5]}),
    "quantile beyond the model": timeseries(options={"horizon": 1, "quantiles": [0.95]}),
    "other type": timeseries(type="table"),
    "multivariate": timeseries(type="multivariate_time_series", series=[[1], [2]]),
    "nested": timeseries(series=[[1, 2], [3, 4]]),
    "empty series": timeseries(series=[]),
    "text in series": timeseries(series=[1, "2"]),
    "only null": timeseries(series=[None]),
    "unknown frequency": timeseries(frequency="fortnight"),
    "other frequency": timeseries(frequency="day"),
    "no frequency": timeseries(frequency=None),
    "bad start": timeseries(start_timestamp="soon"),
    "name of a number": timeseries(name=5),
    "two frequencies": timeseries()
    | {"inputs": timeseries()["inputs"] + timeseries(frequency="D")["inputs"]},
}

Form = Callable[[int, Json], bool]
DIALECTS: dict[str, tuple[str, Form, dict[str, Json]]] = {
    "timegpt": ("/v2/forecast", is_timegpt, TIMEGPT),
    "deepar": ("/invocations", is_sagemaker, DEEPAR),
    "chronos": ("/invocations", is_sagemaker, CHRONOS),
    "vertex": ("/predict", is_vertex, INSTANCES),
    "kserve": ("/v1/models/monthly:predict", is_kserve, INSTANCES),
    "kserve timeseries": ("/v1/timeseries/forecast", is_kserve_timeseries, KSERVE_TIMESERIES),
}
CASES = {
    f"{dialect}: {name}": (path, form, body)
    for dialect, (path, form, bodies) in DIALECTS.items()
    for name, body in (bodies | BROKEN).items()
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_bad_request_is_refused_in_the_form_of_its_dialect(
    caller: AsyncClient, case: tuple[str, Form, Json]
) -> None:
    path, form, body = case
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await caller.post(path, content=content, headers=JSON)
    assert 400 <= answer.status_code < 500, answer.text
    assert form(answer.status_code, answer.json()), answer.text
    assert len(answer.content) < 4000


OTHER_TIMEGPT: dict[str, tuple[str, Json]] = {
    "series shorter than its windows": ("cross_validation", timegpt(h=2, n_windows=2)),
    "no windows": ("cross_validation", timegpt(n_windows=0)),
    "step 0": ("cross_validation", timegpt(step_size=0)),
    "windows without number": ("cross_validation", timegpt(h=1, n_windows=10**18)),
    "too many windows": (
        "cross_validation",
        timegpt(series={"y": [1] * 200, "sizes": [200]}, h=1, n_windows=150),
    ),
    "default level beyond the model": ("anomaly_detection", timegpt(without="h")),
    "level list": ("anomaly_detection", timegpt(without="h", level=[80])),
    "series of one value": (
        "anomaly_detection",
        timegpt(without="h", level=80, series={"y": [1], "sizes": [1]}),
    ),
    "multivariate threshold": (
        "online_anomaly_detection",
        timegpt(level=80, detection_size=2, threshold_method="multivariate"),
    ),
    "detection over all": ("online_anomaly_detection", timegpt(level=80, detection_size=4)),
    "fine-tuning": ("finetune", timegpt()),
    "simulation": ("simulate", timegpt()),
    "explanation": ("explain", timegpt()),
    "job": ("forecast/async", timegpt()),
}


@pytest.mark.parametrize("case", OTHER_TIMEGPT.values(), ids=OTHER_TIMEGPT)
async def test_other_bad_calls_of_timegpt_are_refused(
    caller: AsyncClient, case: tuple[str, Json]
) -> None:
    name, body = case
    answer = await caller.post(f"/v2/{name}", json=body)
    assert answer.status_code in {404, 422}
    assert is_timegpt(answer.status_code, answer.json()), answer.text


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"", ""),
        (b'{"start": "2020-01-01", "target": [1]}\n{"start"', "line 2"),
        (b'{"start": "2020-01-01", "target": [1]}\n{"target": [1]}', "/instances/1"),
        (b'{"start": "2020-01-01", "target": [1, "x"]}', "/instances/0/target/1"),
        (b'{"instances": []}', "/instances/0/instances"),
    ],
)
async def test_bad_line_is_named(caller: AsyncClient, content: bytes, place: str) -> None:
    headers = {"Content-Type": "application/jsonlines"}
    answer = await caller.post("/invocations", content=content, headers=headers)
    assert (answer.status_code, is_sagemaker(400, answer.json())) == (400, True)
    assert place in answer.json()["message"]


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_other_content_type_is_refused(caller: AsyncClient, dialect: str) -> None:
    path, form, _ = DIALECTS[dialect]
    answer = await caller.post(path, content=b"{}", headers={"Content-Type": "text/csv"})
    assert (answer.status_code, form(415, answer.json())) == (415, True)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_other_method_is_refused(caller: AsyncClient, dialect: str) -> None:
    path, form, _ = DIALECTS[dialect]
    answer = await caller.put(path, json={})
    assert (answer.status_code, form(405, answer.json())) == (405, True)


@pytest.mark.parametrize(
    ("dialect", "pointer"),
    [
        ("timegpt", '["body", "series", "y", 3]'),
        ("deepar", "/instances/0/target/1"),
        ("chronos", "/inputs/0/target/1"),
        ("vertex", "/instances/0/1"),
        ("kserve", "/instances/0/1"),
        ("kserve timeseries", "inputs.0.series.1"),
    ],
)
async def test_place_of_a_wrong_value_is_named(
    caller: AsyncClient, dialect: str, pointer: str
) -> None:
    path, _, bodies = DIALECTS[dialect]
    name = {"timegpt": "large number in y", "deepar": "other string"}.get(dialect)
    name = name or next(n for n in bodies if n.startswith(("string in t", "text in")))
    answer = await caller.post(path, json=bodies[name])
    assert pointer in json.dumps(answer.json())


GOOD: dict[str, Json] = {
    "timegpt": timegpt(),
    "deepar": deepar(),
    "chronos": chronos(),
    "vertex": instances(),
    "kserve": instances(),
    "kserve timeseries": timeseries(),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("error", "status"), [(OverloadedError("full"), 503), (EngineError("secret"), 500)]
)
async def test_failures_of_the_service_keep_the_form(
    caller: AsyncClient, one_model: FakeRunners, dialect: str, error: Exception, status: int
) -> None:
    path, form, _ = DIALECTS[dialect]
    one_model.error = error
    answer = await caller.post(path, json=GOOD[dialect])
    assert (answer.status_code, form(status, answer.json())) == (status, True)
    assert "secret" not in answer.text
    assert ("retry-after" in answer.headers) == (status == 503)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_unknown_key_is_refused_in_the_form_of_the_dialect(
    one_model: FakeRunners, tmp_path: Any, dialect: str
) -> None:
    path, form, _ = DIALECTS[dialect]
    key = create_key()
    file = tmp_path / "keys"
    file.write_text(f"{key.line}\n")
    app = create_app(load_settings(api_keys_file=file), one_model, Drain())
    async with AsyncClient(transport=ASGITransport(app), base_url="http://gatecast") as client:
        refused = await client.post(path, json=GOOD[dialect])
        bearer = {"Authorization": f"Bearer {key.text}"}
        answered = await client.post(path, json=GOOD[dialect], headers=bearer)
        probes = [(await client.get(p)).status_code for p in ("/ping", "/health")]
    assert (refused.status_code, form(401, refused.json())) == (401, True)
    assert (answered.status_code, probes) == (200, [200, 200])


@pytest.mark.parametrize("path", ["/ping", "/health"])
async def test_probe_is_red_while_nothing_can_be_forecast(
    caller: AsyncClient, one_model: FakeRunners, path: str
) -> None:
    one_model.is_up = False
    assert (await caller.get(path)).status_code == 503


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_nothing_served_is_503(
    caller: AsyncClient, one_model: FakeRunners, dialect: str
) -> None:
    path, form, _ = DIALECTS[dialect]
    one_model.is_up = False
    answer = await caller.post(path, json=GOOD[dialect])
    assert (answer.status_code, form(503, answer.json())) == (503, True)
