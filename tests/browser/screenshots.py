"""Takes the pictures of the console in ``docs/console``: ``make screenshots``."""

import asyncio
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, Page, ViewportSize

from tests.browser.chromium import browsing
from tests.e2e.client import Client
from tests.e2e.service import Service, serving

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "console"
WIDE = ViewportSize(width=1280, height=860)
NARROW = ViewportSize(width=390, height=844)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

_LOAD_S = 12.0
_SETTLE_MS = 400


async def take_screenshots() -> None:
    """Start a service, show the example in every view, and write the pictures."""
    PICTURES.mkdir(exist_ok=True)
    async with serving(ROOT / "model_repository", access_log=False) as service:
        load = asyncio.create_task(_keep_busy(service))
        async with browsing() as browser:
            for viewport in (WIDE, NARROW):
                for scheme in SCHEMES:
                    await _take_all(browser, service, viewport, scheme)
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)


async def _take_all(
    browser: Browser, service: Service, viewport: ViewportSize, scheme: Literal["light", "dark"]
) -> None:
    context = await browser.new_context(viewport=viewport, color_scheme=scheme)
    page = await context.new_page()
    await page.goto(f"http://127.0.0.1:{service.port}/")
    await page.get_by_role("button", name="Show the example").first.click()
    name = f"{viewport['width']}-{scheme}"
    await _take(page, "#forecast-chart canvas", f"forecast-{name}")
    await page.get_by_role("link", name="Backtest").click()
    await page.get_by_role("slider").fill("30")
    await _take(page, "#backtest-chart canvas", f"backtest-{name}")
    await page.get_by_role("link", name="Models").click()
    await page.wait_for_timeout(_LOAD_S * 1000)
    await _take(page, "#live-chart canvas", f"models-{name}")
    await context.close()


async def _take(page: Page, awaited: str, name: str) -> None:
    await page.locator(awaited).wait_for()
    await page.wait_for_timeout(_SETTLE_MS)
    await page.screenshot(path=PICTURES / f"{name}.png")


async def _keep_busy(service: Service) -> None:
    """Ask for some forecasts a second, so that the live view has something to show."""
    request = {"series": [{"target": list(range(1, 49))}] * 3}
    async with Client(service.port) as client:
        while True:
            for _ in range(4):
                await client.post("/v1/models/monthly/forecast", request)
            await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(take_screenshots())
