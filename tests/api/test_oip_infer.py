"""Inference by the Open Inference Protocol, in process, on a real engine."""

import gzip
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from httpx import AsyncClient
from numpy.typing import NDArray

from app.errors import DeadlineExceededError, OverloadedError
from app.gateway.drain import Drain
from app.gateway.main import create_app
from app.gateway.oip_routes import INFER_EXAMPLE
from app.gateway.runners import Inference
from app.keys import create_key
from app.runner.checks import check_inputs
from app.runner.engine import OrtEngine
from app.settings import load_settings
from app.tensors import Tensors
from app.wire import SequencePart
from tests.api.oip import (
    HEADER,
    INFER_PATH,
    binary_input,
    infer,
    infer_binary,
    json_input,
    read_outputs,
)
from tests.fakes import FakeRunners, forecaster
from tests.tiny_artifact import tiny_artifact

ROOT = Path(__file__).parents[2]
STATES = ("recent_target", "running_sums", "hidden_state", "cell_state")
TARGET = np.arange(1, 25, dtype=np.float32).reshape(2, 12) ** 1.5


class CheckedRunners(FakeRunners):
    """Checks inputs as a runner does."""

    async def infer(self, inference: Inference) -> Tensors:  # type: ignore[explicit-override]
        assert isinstance(self.engine, OrtEngine)
        check_inputs(inference.inputs, self.engine.interface)
        return await super().infer(inference)


@pytest.fixture(scope="module")
def engine() -> OrtEngine:
    return OrtEngine.from_bytes(tiny_artifact(), "cpu")


@pytest.fixture
def runners(engine: OrtEngine) -> FakeRunners:
    return CheckedRunners(forecaster("tiny", 1, engine.card), engine=engine)


@pytest.fixture
async def client(runners: FakeRunners, tmp_path: Path) -> AsyncIterator[AsyncClient]:
    settings = load_settings(model_repository=tmp_path, max_body_bytes=2**20, max_series=1000)
    transport = httpx.ASGITransport(create_app(settings, runners, Drain()))
    async with AsyncClient(
        transport=transport, base_url="http://gatecast", headers={"Accept-Encoding": "identity"}
    ) as client:
        yield client


def run(engine: OrtEngine, target: NDArray[np.float32], **inputs: Any) -> Tensors:
    lengths = np.full(len(target), target.shape[1], np.int32)
    card = engine.card
    names = [spec.name for spec in card.outputs] + [state.next_name for state in card.states]
    return engine.run({"past_target": target, "sequence_lens": lengths} | inputs, names)


def error_of(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    content = answer.json()
    assert content.keys() == {"error"}
    assert isinstance(content["error"], str)
    return content["error"]


async def test_json_gives_what_the_engine_gives(client: AsyncClient, engine: OrtEngine) -> None:
    got = read_outputs(await infer(client, json_input(TARGET)))
    want = run(engine, TARGET)
    assert got.keys() == want.keys()
    for name, array in got.items():
        np.testing.assert_array_equal(array, want[name], strict=True)


async def test_binary_gives_what_the_engine_gives(client: AsyncClient, engine: OrtEngine) -> None:
    answer = await infer_binary(
        client, {"past_target": TARGET}, parameters={"binary_data_output": True}
    )
    assert answer.headers["content-type"] == "application/octet-stream"
    got, want = read_outputs(answer), run(engine, TARGET)
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array, strict=True)


async def test_json_and_binary_inputs_mix(client: AsyncClient, engine: OrtEngine) -> None:
    lengths = np.array([12, 5], np.int32)
    head = json.dumps({"inputs": [json_input(lengths, "sequence_lens"), binary_input(TARGET)]})
    answer = await client.post(
        INFER_PATH, content=head.encode() + TARGET.tobytes(), headers={HEADER: str(len(head))}
    )
    want = run(engine, TARGET, sequence_lens=lengths)["quantiles"]
    np.testing.assert_array_equal(read_outputs(answer)["quantiles"], want)


async def test_raw_request_is_one_row_and_answers_in_binary(
    client: AsyncClient, engine: OrtEngine
) -> None:
    answer = await client.post(INFER_PATH, content=TARGET[:1].tobytes(), headers={HEADER: "0"})
    assert HEADER in answer.headers
    got = read_outputs(answer)["quantiles"]
    np.testing.assert_array_equal(got, run(engine, TARGET[:1])["quantiles"])


async def test_header_that_covers_the_body_means_json(client: AsyncClient) -> None:
    body = json.dumps({"id": "", "inputs": [json_input(TARGET)]}).encode()
    answer = await client.post(
        INFER_PATH,
        content=body,
        headers={HEADER: str(len(body)), "Content-Type": "application/octet-stream"},
    )
    assert HEADER not in answer.headers
    assert "quantiles" in read_outputs(answer)


async def test_version_in_the_path(client: AsyncClient) -> None:
    path = INFER_PATH.replace("infer", "versions/1/infer")
    answer = await client.post(path, json={"inputs": [json_input(TARGET)]})
    assert answer.json()["model_version"] == "1"
    missing = await client.post(path.replace("1", "7"), json={"inputs": [json_input(TARGET)]})
    assert "no such version" in error_of(missing, 404)


async def test_each_output_chooses_its_form(client: AsyncClient) -> None:
    outputs = [
        {"name": "next_hidden_state", "parameters": {"binary_data": False}},
        {"name": "quantiles"},
    ]
    answer = await infer(
        client, json_input(TARGET), outputs=outputs, parameters={"binary_data_output": True}
    )
    got = read_outputs(answer)
    header = json.loads(answer.content[: int(answer.headers[HEADER])])
    assert list(got) == ["next_hidden_state", "quantiles"]
    assert ["data" in output for output in header["outputs"]] == [True, False]
    assert header["outputs"][1]["parameters"].keys() == {"binary_data_size"}
    assert "parameters" not in header["outputs"][0]


@pytest.mark.parametrize(("given", "echoed"), [("a", "a"), ("", None), (None, None)])
async def test_id_is_echoed_only_where_it_is_not_empty(
    client: AsyncClient, given: str | None, echoed: str | None
) -> None:
    answer = (await infer(client, json_input(TARGET), id=given)).json()
    assert answer.get("id") == echoed
    assert ("id" in answer) == (echoed is not None)


async def test_data_are_flat_and_may_come_nested(client: AsyncClient, engine: OrtEngine) -> None:
    answer = await infer(client, json_input(TARGET) | {"data": TARGET.tolist()})
    data = answer.json()["outputs"][0]["data"]
    assert all(isinstance(value, float) for value in data)
    np.testing.assert_array_equal(
        read_outputs(answer)["quantiles"], run(engine, TARGET)["quantiles"]
    )


async def test_nan_and_null_are_missing_values(client: AsyncClient, engine: OrtEngine) -> None:
    target = TARGET[:1].copy()
    target[0, 3] = np.nan
    want = run(engine, target)["quantiles"]
    one = json_input(target)
    for text in (
        json.dumps({"inputs": [one]}),
        json.dumps({"inputs": [one]}).replace("NaN", "null"),
    ):
        answer = await client.post(INFER_PATH, content=text)
        np.testing.assert_array_equal(read_outputs(answer)["quantiles"], want)
    binary = await infer_binary(client, {"past_target": target})
    np.testing.assert_array_equal(read_outputs(binary)["quantiles"], want)


async def test_nan_inside_a_text_stays(client: AsyncClient) -> None:
    body = json.dumps({"id": 'a "NaN\\', "inputs": [json_input(TARGET[:1] * np.nan)]})
    answer = await client.post(INFER_PATH, content=body)
    assert answer.json()["id"] == 'a "NaN\\'


async def test_many_outputs_are_refused_quickly(client: AsyncClient) -> None:
    outputs = [{"name": str(n)} for n in range(50_000)]
    answer = await infer(client, json_input(TARGET), outputs=outputs)
    assert "no output 0" in error_of(answer, 400)


async def test_state_carried_on_forecasts_like_the_whole_history(client: AsyncClient) -> None:
    whole = read_outputs(await infer(client, json_input(TARGET)))
    first = read_outputs(await infer(client, json_input(TARGET[:, :9])))
    states = [json_input(first[f"next_{name}"], name) for name in STATES]
    for state in states:
        state["data"] = [None if np.isnan(value) else value for value in state["data"]]
    rest = read_outputs(await infer(client, json_input(TARGET[:, 9:]), *states))
    np.testing.assert_allclose(rest["quantiles"], whole["quantiles"], rtol=1e-4)


async def test_state_that_is_missing_a_value_is_null_in_json_and_nan_in_binary(
    client: AsyncClient,
) -> None:
    name = "next_recent_target"
    text = await infer(client, json_input(TARGET), outputs=[{"name": name}])
    binary = await infer(
        client,
        json_input(TARGET),
        outputs=[{"name": name, "parameters": {"binary_data": True}}],
    )
    assert None in text.json()["outputs"][0]["data"]
    assert np.isnan(read_outputs(binary)[name]).any()
    np.testing.assert_array_equal(read_outputs(text)[name], read_outputs(binary)[name])


async def test_int64_lengths_are_taken_where_they_fit(client: AsyncClient) -> None:
    lengths = np.array([12, 5], np.int64)
    assert (
        await infer(client, json_input(TARGET), json_input(lengths, "sequence_lens"))
    ).is_success
    lengths[0] = 2**40
    answer = await infer(client, json_input(TARGET), json_input(lengths, "sequence_lens"))
    assert "INT32" in error_of(answer, 400)


async def test_lengths_may_be_a_column(client: AsyncClient) -> None:
    lengths = np.array([12, 5], np.int32)
    row = await infer(client, json_input(TARGET), json_input(lengths, "sequence_lens"))
    column = await infer(client, json_input(TARGET), json_input(lengths[:, None], "sequence_lens"))
    assert row.json() == column.json()


async def test_more_rows_than_one_run_takes_are_divided(
    client: AsyncClient, runners: FakeRunners, engine: OrtEngine
) -> None:
    target = np.random.default_rng(1).uniform(1, 9, (100, 12)).astype(np.float32)
    got = read_outputs(await infer_binary(client, {"past_target": target}))
    assert len(runners.inferences) == 7
    np.testing.assert_allclose(got["quantiles"], run(engine, target)["quantiles"], rtol=1e-5)


async def test_binary_tensor_reaches_the_runner_without_a_copy(
    client: AsyncClient, runners: FakeRunners
) -> None:
    await infer_binary(client, {"past_target": TARGET})
    assert not runners.inferences[0].inputs["past_target"].flags.owndata


async def test_sequence_lens_default_to_the_full_length(
    client: AsyncClient, runners: FakeRunners
) -> None:
    await infer(client, json_input(TARGET))
    assert runners.inferences[0].inputs["sequence_lens"].tolist() == [12, 12]


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
async def test_compressed_request_counts_its_plain_bytes(
    client: AsyncClient, encoding: str, pack: Any
) -> None:
    head = json.dumps({"inputs": [binary_input(TARGET)]}).encode()
    answer = await client.post(
        INFER_PATH,
        content=pack(head + TARGET.tobytes()),
        headers={HEADER: str(len(head)), "Content-Encoding": encoding},
    )
    assert "quantiles" in read_outputs(answer)


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("gzip, deflate, br", "gzip"),
        ("gzip;q=0.1, deflate", "deflate"),
        ("*", "gzip"),
        ("gzip;q=0, *;q=0.5", "deflate"),
        ("identity, gzip;q=0.5", None),
        ("gzip;q=0", None),
        ("br", None),
        ("gzip;q=nonsense", None),
        ("", None),
    ],
)
async def test_answer_is_compressed_as_the_caller_prefers(
    client: AsyncClient, accepted: str, encoding: str | None
) -> None:
    answer = await infer_binary(client, {"past_target": TARGET}, {"Accept-Encoding": accepted})
    assert answer.headers.get("content-encoding") == encoding
    assert "quantiles" in read_outputs(answer)


async def test_only_inference_is_compressed(client: AsyncClient) -> None:
    headers = {"Accept-Encoding": "gzip"}
    for path in ("/v2", "/v2/models/tiny", "/v2/models/tiny/config", "/v2/models/none"):
        assert "content-encoding" not in (await client.get(path, headers=headers)).headers
    refused = await client.post(INFER_PATH, content=b"{}" + b" " * 5000, headers=headers)
    assert "content-encoding" not in refused.headers


async def test_timeout_is_in_microseconds_and_only_shortens(
    client: AsyncClient, runners: FakeRunners
) -> None:
    runners.gate.clear()
    answer = await infer(client, json_input(TARGET), parameters={"timeout": 20_000})
    assert "deadline" in error_of(answer, 504)
    runners.gate.set()
    for timeout in (0, 2**63):
        answer = await infer(client, json_input(TARGET), parameters={"timeout": timeout})
        assert answer.is_success
    spans = [one.deadline for one in runners.inferences]
    assert spans[2] - spans[1] < 5


async def test_priority_reaches_the_runner_and_unknown_parameters_are_ignored(
    client: AsyncClient, runners: FakeRunners
) -> None:
    parameters = {"priority": 3, "mine": "x", "triton_other": 1, "headers": {}}
    answer = await infer(client, json_input(TARGET), parameters=parameters, model_name="other")
    assert answer.is_success
    assert runners.inferences[0].priority == 3


@pytest.mark.parametrize(
    ("priority", "level"), [(1, 1), (3, 3), (0, 0), (2, 0), (4, 0), (2**64 - 1, 0)]
)
async def test_priorities_of_the_middle_level_are_one(
    client: AsyncClient, runners: FakeRunners, priority: int, level: int
) -> None:
    parameters = {"priority": priority}
    await infer(client, json_input(TARGET), parameters=parameters, model_name="other")
    assert runners.inferences[0].priority == level


@pytest.mark.parametrize(
    ("parameters", "part"),
    [
        ({"sequence_id": 5, "sequence_start": True}, SequencePart(5, True, False, "", "tiny")),
        ({"sequence_id": "a", "sequence_end": True}, SequencePart("a", False, True, "", "tiny")),
        ({"sequence_id": 2**64 - 1}, SequencePart(2**64 - 1, False, False, "", "tiny")),
        ({"sequence_id": 0}, None),
        ({"sequence_id": ""}, None),
        ({"sequence_id": None, "sequence_start": False}, None),
    ],
    ids=str,
)
async def test_sequence_reaches_the_runner(
    client: AsyncClient,
    runners: FakeRunners,
    parameters: dict[str, Any],
    part: SequencePart | None,
) -> None:
    assert (await infer(client, json_input(TARGET), parameters=parameters)).is_success
    assert runners.inferences[0].sequence == part


async def test_sequence_holds_no_more_rows_than_one_run(client: AsyncClient) -> None:
    target = np.ones((33, 1), np.float32)
    answer = await infer_binary(client, {"past_target": target}, parameters={"sequence_id": 1})
    assert "at most 16 rows" in error_of(answer, 413)


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ({"inputs": []}, 400, "past_target is missing"),
        ({"inputs": None}, 400, "inputs"),
        ({"inputs": [json_input(TARGET)] * 2}, 400, "twice"),
        ({"inputs": [json_input(TARGET, "x" * 500)]}, 400, "no input xxx"),
        ({"inputs": [json_input(TARGET.astype("f8"))]}, 400, "FP32"),
        ({"inputs": [json_input(TARGET) | {"datatype": "BF16"}]}, 400, "datatype"),
        ({"inputs": [json_input(TARGET[0])]}, 400, "2 dimensions"),
        ({"inputs": [json_input(TARGET[:0])]}, 400, "empty"),
        ({"inputs": [json_input(TARGET) | {"shape": [2, 11]}]}, 400, "22 elements"),
        ({"inputs": [json_input(TARGET) | {"shape": [-2, -12]}]}, 400, "shape"),
        ({"inputs": [json_input(TARGET) | {"shape": []}]}, 400, "1 to 8"),
        ({"inputs": [json_input(TARGET) | {"shape": [2**31] * 8}]}, 400, "shape"),
        ({"inputs": [json_input(TARGET) | {"data": ["1"] * 24}]}, 400, "data"),
        ({"inputs": [json_input(TARGET) | {"data": [True] * 24}]}, 400, "data"),
        ({"inputs": [json_input(TARGET) | {"data": 5}]}, 400, "flat, or nested"),
        ({"inputs": [json_input(TARGET) | {"data": [[1, 2], [3]]}]}, 400, "even rows"),
        ({"inputs": [json_input(TARGET) | {"data": [1e300] * 24}]}, 400, "at most 1e+30"),
        ({"inputs": [binary_input(TARGET) | {"parameters": {}}]}, 400, "either"),
        ({"inputs": [binary_input(TARGET)]}, 400, "96 additional bytes"),
        ({"inputs": [json_input(TARGET)], "outputs": [{"name": "x"}]}, 400, "no output x"),
        ({"outputs": [{"name": "quantiles"}] * 2}, 400, "twice"),
        (
            {"outputs": [{"name": "quantiles", "parameters": {"classification": 2}}]},
            400,
            "classification",
        ),
        (
            {"outputs": [{"name": "quantiles", "parameters": {"shared_memory_region": "a"}}]},
            400,
            "shared memory",
        ),
        ({"parameters": {"priority": -1}}, 400, "priority"),
        ({"parameters": {"timeout": 1.5}}, 400, "timeout"),
        ({"parameters": {"timeout": True}}, 400, "timeout"),
        ({"parameters": {"binary_data_output": 1}}, 400, "binary_data_output"),
        ({"parameters": {"sequence_id": -5}}, 400, "sequence_id"),
        ({"parameters": {"sequence_id": 2**64}}, 400, "sequence_id"),
        ({"parameters": {"sequence_id": "a" * 129}}, 400, "128 characters"),
        ({"parameters": {"sequence_id": 5, "sequence_end": 1}}, 400, "true or false"),
        ({"parameters": {"sequence_start": True}}, 400, "need a sequence_id"),
        ({"parameters": {"sequence_id": 0, "sequence_end": True}}, 400, "need a sequence_id"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_wrong_requests_are_refused(
    client: AsyncClient, changes: dict[str, Any], status: int, text: str
) -> None:
    body = {"inputs": [json_input(TARGET)]} | changes
    answer = await client.post(INFER_PATH, content=json.dumps(body))
    assert text in error_of(answer, status)
    assert len(answer.content) < 500


@pytest.mark.parametrize(
    ("body", "header", "text"),
    [
        (b"", None, "read"),
        (b"{", None, "read"),
        (b'{"unknown": ' + b"[" * 100_000, None, "deep"),
        (b'{"parameters": {"a": ' + b"[" * 100_000 + b"NaN", None, ""),
        (b'{"inputs": [NaN', None, ""),
        (b'{"inputs": [Infinity, NaN]}', None, "read"),
        (b'{"inputs": [-NaN]}', None, "read"),
        (b'{"inputs": [NaN, 1e999]}', None, ""),
        (b'{"id": "NaN, ' + rb"\"" * 100_000, None, "read"),
        (b'{"id": "\xff"}', None, ""),
        (b"{}", "3", "at most 2"),
        (b"{}", "-1", "at most 2"),
        (b"{}", "x", "at most 2"),
        (b"", "0", "raw"),
        (b"12345", "0", "raw"),
        (b'{"inputs": []}more', "14", "unexpected additional"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_malformed_bodies_are_400(
    client: AsyncClient, body: bytes, header: str | None, text: str
) -> None:
    headers = {} if header is None else {HEADER: header}
    assert text in error_of(await client.post(INFER_PATH, content=body, headers=headers), 400)


async def test_binary_size_must_fit_the_shape(client: AsyncClient) -> None:
    one = binary_input(TARGET) | {"parameters": {"binary_data_size": 92}}
    head = json.dumps({"inputs": [one]}).encode()
    answer = await client.post(
        INFER_PATH, content=head + bytes(92), headers={HEADER: str(len(head))}
    )
    assert "binary_data_size must be 96" in error_of(answer, 400)


async def test_unknown_content_encoding_is_415(client: AsyncClient) -> None:
    answer = await client.post(INFER_PATH, content=b"{}", headers={"Content-Encoding": "br"})
    assert "gzip or deflate" in error_of(answer, 415)


async def test_body_is_bounded_after_decompression(client: AsyncClient) -> None:
    packed = gzip.compress(bytes(2**21))
    answer = await client.post(INFER_PATH, content=packed, headers={"Content-Encoding": "gzip"})
    assert "1048576" in error_of(answer, 413)


async def test_rows_are_bounded(client: AsyncClient) -> None:
    answer = await infer_binary(client, {"past_target": np.ones((1001, 1), np.float32)})
    assert "1000 rows" in error_of(answer, 413)


async def test_states_come_all_together_or_not_at_all(client: AsyncClient) -> None:
    state = np.zeros((2, 1, 8), np.float32)
    answer = await infer(client, json_input(TARGET), json_input(state, "hidden_state"))
    assert error_of(answer, 400)


async def test_batch_must_agree(client: AsyncClient) -> None:
    lengths = np.array([12], np.int32)
    answer = await infer(client, json_input(TARGET), json_input(lengths, "sequence_lens"))
    assert "batch must be 2" in error_of(answer, 400)


async def test_runner_errors_keep_their_status(client: AsyncClient, runners: FakeRunners) -> None:
    runners.error = OverloadedError("full", retry_after_s=4)
    answer = await infer(client, json_input(TARGET))
    assert (error_of(answer, 503), answer.headers["retry-after"]) == ("full", "4")
    runners.error = DeadlineExceededError("late")
    assert error_of(await infer(client, json_input(TARGET)), 504) == "late"


async def test_unexpected_error_is_one_sentence(client: AsyncClient, runners: FakeRunners) -> None:
    runners.error = ZeroDivisionError("secret")
    assert "secret" not in error_of(await infer(client, json_input(TARGET)), 500)


async def test_example_of_the_documentation_works(client: AsyncClient) -> None:
    document = (ROOT / "docs/open-inference-protocol.md").read_text()
    body = document.split("```json\n")[1].split("```")[0]
    answer = await client.post(INFER_PATH, content=body)
    assert read_outputs(answer)["quantiles"].shape == (2, 6, 9)
    assert answer.json()["id"] == "42"


async def test_example_of_the_description_works(client: AsyncClient) -> None:
    assert (await client.post(INFER_PATH, json=INFER_EXAMPLE)).is_success


async def test_sequence_belongs_to_the_key_that_sends_it(
    runners: FakeRunners, tmp_path: Path
) -> None:
    keys = [create_key(), create_key()]
    path = tmp_path / "keys"
    path.write_text("".join(f"{key.line}\n" for key in keys))
    app = create_app(load_settings(api_keys_file=path), runners, Drain())
    body = {"inputs": [json_input(TARGET)], "parameters": {"sequence_id": 1}}
    transport = httpx.ASGITransport(app)
    async with AsyncClient(transport=transport, base_url="http://gatecast") as client:
        for key in keys:
            await client.post(INFER_PATH, json=body, headers={"X-API-Key": key.text})
    parts = [inference.sequence for inference in runners.inferences]
    owners = {part.owner for part in parts if part is not None}
    assert len(owners) == 2
    assert "" not in owners
