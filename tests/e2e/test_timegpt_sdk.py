"""The real ``nixtla`` SDK, unmodified, against a real service with the starter model."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytest_asyncio
from nixtla import NixtlaClient
from nixtla.nixtla_client import ApiError

from app.keys import create_key
from tests.e2e.client import Client
from tests.e2e.service import Service, serving, write_model
from tests.tiny_artifact import tiny_artifact

ROOT = Path(__file__).parents[2]
KEY = create_key()
SHARED = pytest.mark.asyncio(loop_scope="module")
"""For tests that leave the service as it was, and so share one."""

# The SDK and pandas use what later versions of each other and of NumPy give up.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@asynccontextmanager
async def starter(tmp_path: Path, **settings: object) -> AsyncIterator[Service]:
    """Serve the starter model with an API key, since the SDK always sends one."""
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY.line}\n")
    async with serving(ROOT / "model_repository", api_keys_file=keys, **settings) as service:
        yield service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    async with starter(tmp_path_factory.mktemp("keys")) as service:
        yield service


async def ask(
    service: Service, question: Callable[[NixtlaClient], Any], key: str = KEY.text
) -> Any:
    """Run the SDK, which blocks, in a thread; it tries again every second."""
    client = NixtlaClient(
        api_key=key,
        base_url=f"http://127.0.0.1:{service.port}",
        retry_interval=1,
        max_retries=30,
    )
    return await asyncio.to_thread(question, client)


async def native(service: Service, series: list[Any], **fields: Any) -> list[dict[str, Any]]:
    """Ask the native API for quantiles, each an array of shape ``(series, horizon)``."""
    body = {"series": [{"target": values} for values in series]} | fields
    async with Client(service.port) as client:
        answer = await client.post(
            "/v1/models/monthly/forecast", body, {"Authorization": f"Bearer {KEY.text}"}
        )
    return [one["quantiles"] for one in answer.json()["forecasts"]]


def sales(*lengths: int) -> pd.DataFrame:
    """Return monthly series named a, b, c of these lengths, in float32's own numbers."""
    random = np.random.default_rng(3)
    tables = []
    for name, length in zip("abcdefgh", lengths, strict=False):
        steps = np.arange(length)
        values = 100 + steps + 20 * np.sin(steps * np.pi / 6) + random.normal(0, 3, length)
        stamps = pd.date_range("2000-01-01", periods=length, freq="MS")
        tables.append(pd.DataFrame({"unique_id": name, "ds": stamps, "y": np.float32(values)}))
    return pd.concat(tables, ignore_index=True)


def targets(table: pd.DataFrame) -> list[list[float]]:
    return [group["y"].astype(float).tolist() for _, group in table.groupby("unique_id")]


def flat(forecasts: list[dict[str, Any]], level: str) -> list[float]:
    return [value for one in forecasts for value in one[level]]


@SHARED
async def test_levels_quantiles_and_partitions_are_the_native_numbers(service: Service) -> None:
    table = sales(120, 60, 37)
    want = await native(
        service, targets(table), horizon=12, quantile_levels=[0.1, 0.2, 0.5, 0.8, 0.9]
    )
    levels = await ask(service, lambda c: c.forecast(table, h=12, freq="MS", level=[60, 80]))
    inferred = await ask(service, lambda c: c.forecast(table, h=12, quantiles=[0.1, 0.5, 0.9]))
    parts = await ask(
        service, lambda c: c.forecast(table, h=12, freq="MS", level=[80], num_partitions=3)
    )
    offset = await ask(service, lambda c: c.forecast(table, h=12, freq=pd.offsets.MonthBegin()))
    assert levels["TimeGPT"].tolist() == flat(want, "0.5")
    assert levels["TimeGPT-lo-80"].tolist() == flat(want, "0.1")
    assert levels["TimeGPT-hi-60"].tolist() == flat(want, "0.8")
    assert levels["ds"].tolist()[-1] == pd.Timestamp("2004-01-01")
    for number, level in ((10, "0.1"), (50, "0.5"), (90, "0.9")):
        assert inferred[f"TimeGPT-q-{number}"].tolist() == flat(want, level)
    assert parts["TimeGPT-hi-80"].to_numpy() == pytest.approx(flat(want, "0.9"), rel=1e-5)
    assert offset["TimeGPT"].tolist() == flat(want, "0.5")


@SHARED
async def test_cross_validation_and_history_are_native_forecasts_from_earlier_origins(
    service: Service,
) -> None:
    table = sales(100, 80)
    first, second = targets(table)
    want = await native(
        service,
        [first[:86], first[:92], second[:66], second[:72]],
        horizon=8,
        quantile_levels=[0.1, 0.5, 0.9],
    )
    found = await ask(
        service,
        lambda c: c.cross_validation(table, h=8, freq="MS", n_windows=2, step_size=6, level=[80]),
    )
    fitted = await ask(
        service, lambda c: c.forecast(table, h=3, freq="MS", level=[80], add_history=True)
    )
    assert found["TimeGPT"].tolist() == flat(want, "0.5")
    assert found["TimeGPT-lo-80"].tolist() == flat(want, "0.1")
    assert found["y"].tolist()[:8] == pytest.approx(first[86:94])
    assert found["cutoff"].nunique() == 4
    # Two seasons are known before the first fitted value.
    assert len(fitted) == (100 - 24) + (80 - 24) + 2 * 3
    assert (fitted["TimeGPT-lo-80"] <= fitted["TimeGPT-hi-80"]).all()


@SHARED
async def test_anomalies_are_found_where_they_were_put(service: Service) -> None:
    table = sales(120, 90)
    odd = 110
    table.loc[odd, "y"] = 900.0
    found = await ask(service, lambda c: c.detect_anomalies(table, freq="MS", level=95))
    newest = await ask(
        service,
        lambda c: c.detect_anomalies_online(table, h=6, detection_size=12, freq="MS", level=95),
    )
    assert found.loc[found["ds"] == table.loc[odd, "ds"], "anomaly"].any()
    assert found["anomaly"].mean() < 0.2
    assert newest.loc[newest["y"] == 900.0, "anomaly"].all()
    assert len(newest) == 24


@SHARED
async def test_body_of_more_than_a_megabyte_is_compressed_and_answered(service: Service) -> None:
    length, count = 480, 400
    values = np.tile(sales(length)["y"].to_numpy(), count) + np.repeat(np.arange(count), length)
    assert len(values) * len("123.456,") > 2**20  # from here on the SDK compresses by zstd
    table = pd.DataFrame(
        {
            "unique_id": np.repeat(np.arange(count), length),
            "ds": np.tile(pd.date_range("1980-01-01", periods=length, freq="MS"), count),
            "y": values.astype(np.float32) + np.float32(0.123456),
        }
    )
    found = await ask(service, lambda c: c.forecast(table, h=2, freq="MS"))
    want = await native(service, targets(table), horizon=2, quantile_levels=[0.5])
    assert found["TimeGPT"].tolist() == flat(want, "0.5")


@SHARED
async def test_sdk_shows_our_refusals(service: Service) -> None:
    table = sales(60)
    promoted = table.assign(promo=1.0)
    ahead = pd.DataFrame(
        {"unique_id": "a", "ds": pd.date_range("2005-01-01", periods=3, freq="MS"), "promo": 1.0}
    )
    calls: dict[str, Callable[[NixtlaClient], Any]] = {
        "trained without covariates": lambda c: c.forecast(promoted, X_df=ahead, h=3, freq="MS"),
        "level must be at most 95": lambda c: c.forecast(table, h=3, freq="MS", level=[99]),
        "h must be between 1 and 24": lambda c: c.forecast(table, h=25, freq="MS"),
        "finetune_steps is not supported": lambda c: c.forecast(
            table, h=3, freq="MS", finetune_steps=2
        ),
        "no model of this name": lambda c: c.forecast(table, h=3, freq="MS", model="other"),
        "it has no fine-tuning": lambda c: c.finetune(table, freq="MS"),
    }
    for sentence, call in calls.items():
        with pytest.raises(ApiError, match=sentence):
            await ask(service, call)
    with pytest.raises(ApiError, match="send a valid API key"):
        await ask(service, lambda c: c.forecast(table, h=3, freq="MS"), key="wrong")
    assert await ask(service, lambda c: c.validate_api_key())
    assert not await ask(service, lambda c: c.validate_api_key(), key="wrong")
    assert await ask(service, lambda c: c.list_models()) == ["monthly"]
    assert await ask(service, lambda c: c.finetuned_models(as_df=False)) == []


async def test_call_outlives_the_loss_of_the_runner(tmp_path: Path) -> None:
    async with starter(tmp_path) as service:
        os.kill(service.runners[0], signal.SIGKILL)
        found = await ask(service, lambda c: c.forecast(sales(60), h=2, freq="MS"))
    assert len(found) == 2


@pytest.mark.slow  # it exports a model of its own; tests/api has the same without the SDK
async def test_exogenous_values_reach_a_model_that_has_them(tmp_path: Path) -> None:
    artifact = tiny_artifact(past_covariates=("price",), future_covariates=("promo",))
    repository = tmp_path / "models"
    write_model(repository, artifact, name="monthly")
    table = sales(40, 30).assign(
        promo=lambda t: np.arange(len(t)) % 5 / 4, price=lambda t: np.arange(len(t)) % 7 / 8
    )
    ahead = pd.concat(
        pd.DataFrame({"unique_id": name, "ds": pd.date_range(start, periods=3, freq="MS")})
        for name, start in (("a", "2003-05-01"), ("b", "2002-07-01"))
    ).assign(promo=[1, 0, 0.25, 0.5, 1, 0])
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY.line}\n")
    async with serving(repository, api_keys_file=keys) as service:
        found = await ask(
            service,
            lambda c: c.forecast(table, X_df=ahead, h=3, freq="MS", hist_exog_list=["price"]),
        )
        plain = await ask(
            service,
            lambda c: c.forecast(
                table, X_df=ahead.assign(promo=0.0), h=3, freq="MS", hist_exog_list=["price"]
            ),
        )
        backtest = await ask(
            service,
            lambda c: c.cross_validation(table, h=3, freq="MS", hist_exog_list=["price"]),
        )
        series = [
            {
                "target": group["y"].astype(float).tolist(),
                "past_covariates": {"price": group["price"].tolist()},
                "future_covariates": {
                    "promo": group["promo"].tolist()
                    + ahead.loc[ahead["unique_id"] == name, "promo"].tolist()
                },
            }
            for name, group in table.groupby("unique_id")
        ]
        async with Client(service.port) as client:
            answer = await client.post(
                "/v1/models/monthly/forecast",
                {"series": series, "horizon": 3, "quantile_levels": [0.5]},
                {"Authorization": f"Bearer {KEY.text}"},
            )
    want = [one["quantiles"] for one in answer.json()["forecasts"]]
    assert found["TimeGPT"].tolist() == flat(want, "0.5")
    assert found["TimeGPT"].tolist() != plain["TimeGPT"].tolist()
    assert len(backtest) == 6
