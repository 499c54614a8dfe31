"""The console when answers are late, missing or refused, and when users change their minds."""

import asyncio
import csv
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, Page, Route, expect

from app.keys import NewKey
from tests.browser.steps import drop, show_example
from tests.e2e.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="session")

MONTHS = [f"{year}-{month:02}-01" for year in (2022, 2023) for month in range(1, 13)]


def shops(**values: str) -> bytes:
    rows = [f"{name},{month},{value}\n" for name, value in values.items() for month in MONTHS]
    return "".join(["item_id,timestamp,target\n", *rows]).encode()


def priced_shops(*, known: list[str], unknown: str) -> bytes:
    """Shops with promotions six months ahead, and one without, which no forecast takes."""
    rows = [
        f"{name},{month},{n},1,0\n" for name in (*known, unknown) for n, month in enumerate(MONTHS)
    ]
    ahead = [f"{name},2024-{month:02}-01,,,1\n" for name in known for month in range(1, 7)]
    return "".join(["item_id,timestamp,target,price,promo\n", *rows, *ahead]).encode()


@asynccontextmanager
async def first_held(page: Page, address: str) -> AsyncIterator[None]:
    """Hold the first request to ``address`` until the block ends; later ones pass."""
    is_over = asyncio.Event()
    is_sent = asyncio.Event()

    async def hold(route: Route) -> None:
        if is_sent.is_set():
            await route.continue_()
            return
        is_sent.set()
        await is_over.wait()
        await route.continue_()

    await page.route(address, hold)
    yield
    assert is_sent.is_set()
    is_over.set()


async def test_late_answer_about_older_columns_is_not_shown(page: Page) -> None:
    rows = "".join(f"{month},{n},{100 * n}\n" for n, month in enumerate(MONTHS))
    await drop(page, "two.csv", f"when,small,large\n{rows}".encode())
    await expect(page.locator("#column-target")).to_have_value("large")
    await page.get_by_text("Columns and frequency").click()
    async with first_held(page, "**/v1/series*"):
        await page.locator("#column-target").select_option("small")
        await page.locator("#column-timestamp").select_option("")
        await expect(page.locator("#data-status")).to_contain_text("plain steps")
    await page.wait_for_load_state("networkidle")
    await expect(page.locator("#data-status")).to_contain_text("plain steps")


async def test_late_refusal_of_an_older_file_is_not_shown(
    page: Page, complaints: list[str]
) -> None:
    async with first_held(page, "**/v1/series*"):
        await drop(page, "bad.csv", b"item_id,timestamp,target\na,2024-01-01,many\n")
        await show_example(page)
    await page.wait_for_load_state("networkidle")
    await expect(page.locator("#data-error")).to_be_hidden()
    complaints[:] = [text for text in complaints if "422" not in text]


async def test_late_example_does_not_replace_a_file(page: Page) -> None:
    async with first_held(page, "**/example.csv"):
        await page.get_by_role("button", name="Show the example").first.click()
        await drop(page, "shops.csv", shops(north="1", south="2"))
        await expect(page.locator("#data-status")).to_contain_text("Read shops.csv")
    await page.wait_for_load_state("networkidle")
    await expect(page.locator("#data-status")).to_contain_text("Read shops.csv")


async def test_missing_example_is_said(page: Page, complaints: list[str]) -> None:
    await page.route("**/example.csv", lambda route: route.abort())
    await page.get_by_role("button", name="Show the example").first.click()
    await expect(page.locator("#data-error")).to_contain_text("does not answer")
    complaints[:] = [text for text in complaints if "ERR_FAILED" not in text]


async def test_service_that_hangs_is_not_called_ready(page: Page) -> None:
    await page.add_init_script(
        "const timeout = AbortSignal.timeout.bind(AbortSignal);"
        "AbortSignal.timeout = () => timeout(50)"
    )
    await page.route("**/readyz", lambda _: None)
    await page.reload()
    await expect(page.locator("#state")).to_have_text("No answer")


async def test_other_time_column_brings_its_own_frequency(page: Page) -> None:
    rows = "".join(f"a,{month},2024-01-{n + 1:02},{n}\n" for n, month in enumerate(MONTHS))
    await drop(page, "two.csv", f"item_id,timestamp,day,target\n{rows}".encode())
    await expect(page.locator("#freq")).to_have_value("M")
    await page.get_by_text("Columns and frequency").click()
    await page.locator("#column-timestamp").select_option("day")
    await expect(page.locator("#data-status")).to_contain_text("every day")


async def test_refused_series_is_not_shown_with_the_forecast_of_another(
    browser: Browser, shop_service: Service
) -> None:
    page = await browser.new_page()
    await page.goto(f"http://127.0.0.1:{shop_service.port}/")
    await drop(page, "shops.csv", priced_shops(known=["north"], unknown="south"))
    await expect(page.locator("#forecast-status")).to_contain_text("north: 6 steps")
    await page.locator("#series-list").select_option("1")
    await expect(page.locator("#forecast-error")).to_contain_text("must have 30 values")
    await expect(page.locator("#forecast-table tr")).to_have_count(0)
    await expect(page.locator("#forecast-chart")).to_have_attribute(
        "aria-label", "Chart: south, 24 values, without a forecast."
    )
    await page.close()


async def test_refused_rest_of_a_download_does_not_lose_the_forecasts(
    browser: Browser, shop_service: Service
) -> None:
    page = await browser.new_page()
    await page.goto(f"http://127.0.0.1:{shop_service.port}/")
    known = [f"shop {number:03}" for number in range(200)]
    await drop(page, "shops.csv", priced_shops(known=known, unknown="zoo"))
    await expect(page.locator("#forecast-status")).to_contain_text("6 steps ahead")
    async with page.expect_download() as waiting:
        await page.get_by_role("button", name="Download CSV").click()
    rows = list(csv.DictReader((await (await waiting.value).path()).read_text().splitlines()))
    assert len(rows) == 200 * 6 + 1
    assert rows[-1]["item_id"] == "zoo"
    assert "must have 30 values" in rows[-1]["error"]
    await page.close()


async def test_wrong_horizon_does_not_keep_the_forecast_of_an_older_file(page: Page) -> None:
    await show_example(page)
    await page.get_by_label("Horizon").fill("99")
    await drop(page, "shops.csv", shops(north="1", south="2"))
    await expect(page.locator("#forecast-status")).to_contain_text("north: 24 steps")
    await expect(page.get_by_label("Horizon")).to_have_attribute("aria-invalid", "false")


async def test_chosen_series_stays_chosen_after_a_search(page: Page) -> None:
    await drop(page, "shops.csv", shops(north="1", south="2"))
    await page.locator("#series-list").select_option("1")
    await page.get_by_label("Search").fill("north")
    await page.get_by_label("Search").fill("")
    await expect(page.locator("#series-list")).to_have_value("1")


async def test_names_are_never_markup(page: Page) -> None:
    await drop(page, "shops.csv", shops(**{"<img src=x onerror=alert(1)>": "1", "<b>b</b>": "2"}))
    await expect(page.locator("#forecast-status")).to_contain_text("<img src=x onerror=alert(1)>")
    await expect(page.locator("main img, main b")).to_have_count(0)


async def test_skip_link_stays_in_the_view(page: Page) -> None:
    await page.get_by_role("link", name="Models").click()
    await page.get_by_role("link", name="Skip to content").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#main")).to_be_focused()
    await expect(page.locator("#view-models")).to_be_visible()


async def test_chart_has_the_same_dates_in_every_time_zone(
    browser: Browser, service: Service
) -> None:
    drawn = []
    for zone in ("America/New_York", "Asia/Tokyo"):
        page = await browser.new_page(timezone_id=zone)
        await page.goto(f"http://127.0.0.1:{service.port}/")
        await show_example(page)
        drawn.append(await page.locator("#forecast-chart canvas").evaluate("c => c.toDataURL()"))
        await page.close()
    assert drawn[0] == drawn[1]


async def test_key_left_with_escape_is_not_used(browser: Browser, locked_service: Service) -> None:
    page = await browser.new_page()
    await page.goto(f"http://127.0.0.1:{locked_service.port}/")
    await page.get_by_role("textbox", name="API key").fill("gc_wrong")
    await page.get_by_role("button", name="Use this key").click()
    await expect(page.locator("#key-error")).to_have_text("That key is not known.")
    await page.get_by_role("textbox", name="API key").fill("gc_other")
    await page.keyboard.press("Escape")
    await expect(page.locator("#models-error")).to_contain_text("Without an API key")
    assert await page.evaluate("sessionStorage['gatecast.key']") == "gc_wrong"
    await page.close()


async def test_late_refusal_does_not_ask_again_for_a_good_key(
    browser: Browser, locked_service: Service, key: NewKey
) -> None:
    page = await browser.new_page()
    async with first_held(page, "**/v1/models"):
        await page.goto(f"http://127.0.0.1:{locked_service.port}/")
        await page.get_by_role("button", name="Show the example").first.click()
        await page.get_by_role("textbox", name="API key").fill(key.text)
        await page.get_by_role("button", name="Use this key").click()
        await expect(page.locator("#data-status")).to_contain_text("144 rows")
    await expect(page.locator("#model")).to_have_value("monthly")
    await expect(page.locator("#key-dialog")).to_be_hidden()
    await page.close()
