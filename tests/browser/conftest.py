from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Request, expect

from app.keys import NewKey, create_key
from tests.browser.chromium import SKIP_REASON, browsing, find_chromium
from tests.e2e.service import Service, serving, write_model
from tests.tiny_artifact import tiny_artifact
from tests.tiny_sequence_model import tiny_sequence_model

expect.set_options(timeout=20_000)  # the machine may be busy; what comes sooner is not waited for

STARTER = Path(__file__).parents[2] / "model_repository"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    if find_chromium() is None:
        pytest.skip(SKIP_REASON)
    async with browsing() as browser:
        yield browser


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def service() -> AsyncIterator[Service]:
    async with serving(STARTER, access_log=False) as service:
        yield service


@pytest.fixture(scope="session")
def key() -> NewKey:
    return create_key("a browser")


@pytest_asyncio.fixture(loop_scope="session")
async def locked_service(tmp_path: Path, key: NewKey) -> AsyncIterator[Service]:
    (tmp_path / "keys").write_text(f"{key.line}\n")
    async with serving(STARTER, api_keys_file=tmp_path / "keys") as service:
        yield service


@pytest_asyncio.fixture(loop_scope="session")
async def shop_service(tmp_path: Path) -> AsyncIterator[Service]:
    """Serves a model that needs covariates, and one that classifies."""
    model = tiny_artifact(past_covariates=("price",), future_covariates=("promo",))
    write_model(tmp_path, model, "shop")
    write_model(tmp_path, tiny_sequence_model("classify"), "moods")
    async with serving(tmp_path, access_log=False) as service:
        yield service


@pytest.fixture
def complaints() -> list[str]:
    """What the page logs as an error, throws, or asks of other hosts; must stay empty."""
    return []


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, service: Service, complaints: list[str]) -> AsyncIterator[Page]:
    """The console of a new visitor; every test with it also checks that there are no complaints."""
    address = f"http://127.0.0.1:{service.port}/"
    context = await browser.new_context(viewport={"width": 1280, "height": 860})
    page = await context.new_page()

    def check_host(request: Request) -> None:
        if not request.url.startswith((address, "blob:", "data:")):
            complaints.append(f"asked {request.url}")

    page.on("request", check_host)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    await page.goto(address)
    yield page
    await context.close()
    assert complaints == []
