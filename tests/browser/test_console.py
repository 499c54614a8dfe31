"""The console in a real browser, against a real service with the starter model."""

import csv
import io
import json
import re
from pathlib import Path

import httpx
import polars as pl
import pytest
from playwright.async_api import Browser, Page, expect

from app.keys import NewKey
from tests.browser.steps import drop, paste, show_example
from tests.e2e.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="session")

EXAMPLE = Path(__file__).parents[2] / "examples" / "air_passengers.csv"
TWO_YEARS = ", ".join(str(100 + 10 * (month % 12)) for month in range(24))
GAPPY = "shop;day;sold\n" + "".join(
    f"{shop};{year}-{month:02}-01;{month},5\n"
    for shop in ("north", "south")
    for year in (2022, 2023)
    for month in range(1, 13)
    if (shop, month) != ("south", 6)
)


async def test_page_starts_empty_and_says_what_to_do(page: Page) -> None:
    await expect(page.get_by_role("heading", name="Make a forecast")).to_be_visible()
    await expect(page.locator("#state")).to_have_text("Ready")
    await expect(page.locator("#model")).to_have_value("monthly")


async def test_example_becomes_a_chart_and_a_table(page: Page) -> None:
    await show_example(page)
    await expect(page.locator("#forecast-chart canvas")).to_be_visible()
    await page.get_by_text("All values in a table").click()
    await expect(page.locator("#forecast-table tbody tr")).to_have_count(12)
    await expect(page.locator("#forecast-table tbody tr").first).to_contain_text("1961-01-01")


async def test_pasted_numbers_are_forecast(page: Page) -> None:
    await paste(page, TWO_YEARS)
    await expect(page.locator("#data-status")).to_contain_text("24 rows, 1 series, plain steps")
    await expect(page.locator("#forecast-status")).to_contain_text("12 steps ahead by monthly")


async def test_nothing_pasted_is_said(page: Page) -> None:
    await page.get_by_role("button", name="Use text").click()
    await expect(page.get_by_role("alert")).to_contain_text("Paste some numbers first")


async def test_file_with_several_series_can_be_searched(page: Page) -> None:
    await drop(page, "shops.csv", GAPPY.encode())
    await expect(page.locator("#data-status")).to_contain_text("2 series, every month")
    await page.get_by_label("Search").fill("sou")
    await expect(page.locator("#series-list option")).to_have_count(1)
    await page.locator("#series-list").select_option("1")
    await expect(page.locator("#forecast-status")).to_contain_text("south: 12 steps")
    await expect(page.locator("#notes")).to_contain_text("2 steps of this series have no row")


async def test_parquet_file_is_read(page: Page) -> None:
    sink = io.BytesIO()
    pl.read_csv(EXAMPLE, try_parse_dates=True).write_parquet(sink)
    await drop(page, "air.parquet", sink.getvalue())
    await expect(page.locator("#data-status")).to_contain_text("144 rows, 1 series, every month")
    await expect(page.locator("#forecast-status")).to_contain_text("air_passengers")


async def test_column_can_be_corrected(page: Page) -> None:
    rows = "".join(f"2024-{month:02}-01,{month},{100 * month}\n" for month in range(1, 13))
    await drop(page, "two.csv", f"when,small,large\n{rows}".encode())
    await expect(page.locator("#column-target")).to_have_value("large")
    await page.get_by_text("Columns and frequency").click()
    await page.get_by_label("Numbers to forecast").select_option("small")
    await expect(page.locator("#forecast-chart")).to_have_attribute(
        "aria-label", re.compile(r"12 values, then a forecast from \d{1,2}\b(?!\d)")
    )


async def test_horizon_is_kept_within_the_model(page: Page) -> None:
    await show_example(page)
    await page.get_by_label("Horizon").fill("3")
    await expect(page.locator("#forecast-status")).to_contain_text("3 steps ahead")
    await page.get_by_label("Horizon").fill("99")
    await expect(page.get_by_label("Horizon")).to_have_attribute("aria-invalid", "true")


async def test_forecasts_of_all_series_are_downloaded(page: Page) -> None:
    await drop(page, "shops.csv", GAPPY.encode())
    await expect(page.locator("#forecast-status")).to_contain_text("north")
    async with page.expect_download() as waiting:
        await page.get_by_role("button", name="Download CSV").click()
    rows = list(csv.DictReader((await (await waiting.value).path()).read_text().splitlines()))
    assert [row["item_id"] for row in rows] == ["north"] * 12 + ["south"] * 12
    assert rows[0]["timestamp"] == "2024-01-01"
    assert all(float(row["0.1"]) <= float(row["0.5"]) <= float(row["0.9"]) for row in rows)


async def test_copied_curl_gives_the_same_forecast(page: Page, service: Service) -> None:
    await show_example(page)
    await page.get_by_role("button", name="Copy as curl").click()
    await page.locator("#copied-box").evaluate("box => { box.open = true }")
    text = await page.locator("#copied").inner_text()
    body = re.search(r"-d '(.*)'", text)
    assert body is not None
    url = f"http://127.0.0.1:{service.port}/v1/models/monthly/forecast"
    assert url in text
    async with httpx.AsyncClient() as client:
        headers = {"Content-Type": "application/json"}
        answer = await client.post(url, content=body[1], headers=headers)
    assert answer.json()["forecasts"][0]["timestamps"][0] == "1961-01-01"


async def test_backtest_slides_through_the_history(page: Page) -> None:
    await show_example(page)
    await page.get_by_role("link", name="Backtest").click()
    await expect(page.locator("#backtest-status")).to_contain_text("48 origins")
    await expect(page.locator("#origin-label")).to_have_text("after 1959-12-01")
    await expect(page.locator("#mean-mase")).to_have_text(re.compile(r"0\.\d+"))
    await page.get_by_role("slider").focus()
    await page.keyboard.press("ArrowLeft")
    await expect(page.locator("#origin-label")).to_have_text("after 1959-11-01")


async def test_models_show_card_accuracy_and_life(page: Page) -> None:
    await page.get_by_role("link", name="Models").click()
    card = page.get_by_role("article")
    await expect(card).to_contain_text("M3 monthly")
    await expect(card).to_contain_text("up to 24 steps")
    await expect(page.locator("#live-waiting")).to_have_text("0")


async def test_theme_follows_the_system_and_the_switch(page: Page) -> None:
    root = page.locator("html")
    await expect(root).to_have_attribute("data-theme", "light")
    await page.emulate_media(color_scheme="dark")
    await expect(root).to_have_attribute("data-theme", "dark")
    await page.get_by_role("button", name="Dark").click()
    await page.reload()
    await expect(root).to_have_attribute("data-theme", "light")


@pytest.mark.parametrize("tab", ["forecast", "backtest", "models"])
async def test_narrow_screen_needs_no_sideways_scrolling(page: Page, tab: str) -> None:
    await page.set_viewport_size({"width": 390, "height": 844})
    await show_example(page)
    await page.get_by_role("link", name=tab.title()).click()
    await expect(page.locator(f"#view-{tab}")).to_be_visible()
    width = await page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390


async def test_example_is_reached_by_keyboard(page: Page) -> None:
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    await page.keyboard.press("Enter")
    for _ in range(4):
        await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Example", exact=True)).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#forecast-status")).to_contain_text("12 steps ahead")


async def test_every_control_has_a_name(page: Page) -> None:
    await show_example(page)
    nameless = await page.evaluate(
        "[...document.querySelectorAll('input, select, textarea, button')]"
        ".filter(e => !(e.labels?.length || e.ariaLabel || e.textContent.trim())).map(e => e.id)"
    )
    assert nameless == []


async def test_broken_file_is_explained(page: Page, complaints: list[str]) -> None:
    await drop(page, "bad.csv", b"item_id,timestamp,target\na,2024-01-01,1\na,2024-02-01,many\n")
    await expect(page.get_by_role("alert")).to_contain_text("column target, row 3: 'many'")
    # The browser itself logs each refused request.
    complaints[:] = [text for text in complaints if "422" not in text]


async def test_file_of_another_kind_is_refused_before_it_is_sent(page: Page) -> None:
    await drop(page, "plan.xlsx", b"PK")
    await expect(page.get_by_role("alert")).to_contain_text("only CSV, JSON Lines")


async def test_covariates_of_a_file_reach_the_model(
    browser: Browser, shop_service: Service
) -> None:
    page = await browser.new_page()
    address = f"http://127.0.0.1:{shop_service.port}/"
    await page.goto(address)
    months = [f"{year}-{month:02}-01" for year in (2022, 2023, 2024) for month in range(1, 13)]
    known = [f"{month},{n},{n % 5},{n % 2}\n" for n, month in enumerate(months[:30])]
    ahead = [f"{month},,,1\n" for month in months[30:]]
    await drop(page, "shop.csv", "".join(["day,sold,price,promo\n", *known, *ahead]).encode())
    await expect(page.locator("#forecast-status")).to_contain_text("6 steps ahead by shop")
    await page.get_by_role("button", name="Copy as curl").click()
    await page.locator("#copied-box").evaluate("box => { box.open = true }")
    body = re.search(r"-d '(.*)'", await page.locator("#copied").inner_text())
    assert body is not None
    (item,) = json.loads(body[1])["series"]
    assert item["past_covariates"]["price"] == [n % 5 for n in range(30)]
    assert item["future_covariates"]["promo"] == [n % 2 for n in range(30)] + [1] * 6
    headers = {"Content-Type": "application/json"}
    async with httpx.AsyncClient(base_url=address, headers=headers) as client:
        answer = await client.post("v1/models/shop/forecast", content=body[1])
    assert answer.json()["forecasts"][0]["timestamps"][0] == "2024-07-01"
    await page.get_by_role("link", name="Backtest").click()
    await expect(page.locator("#backtest-status")).to_contain_text("17 origins")
    await page.close()


async def test_model_that_classifies_is_shown_and_not_offered_for_forecasts(
    browser: Browser, shop_service: Service
) -> None:
    page = await browser.new_page()
    await page.goto(f"http://127.0.0.1:{shop_service.port}/#models")
    card = page.get_by_role("article").filter(has_text="moods")
    await expect(card).to_contain_text("Finds the class of a sequence")
    await expect(card).to_contain_text("low, normal, high")
    await expect(card.get_by_role("cell", name="most frequent class")).to_be_visible()
    offered = await page.locator("#model option").evaluate_all("all => all.map(one => one.value)")
    assert offered == ["shop"]
    await page.close()


async def test_key_is_asked_for_and_kept_in_the_tab_only(
    browser: Browser, locked_service: Service, key: NewKey
) -> None:
    page = await browser.new_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    await page.goto(f"http://127.0.0.1:{locked_service.port}/")
    await page.get_by_role("textbox", name="API key").fill("gc_wrong")
    await page.get_by_role("button", name="Use this key").click()
    await expect(page.locator("#key-error")).to_have_text("That key is not known.")
    await page.get_by_role("textbox", name="API key").fill(key.text)
    await page.get_by_role("button", name="Use this key").click()
    await expect(page.locator("#model")).to_have_value("monthly")
    assert await page.evaluate("sessionStorage['gatecast.key']") == key.text
    assert key.text not in await page.evaluate("JSON.stringify(localStorage) + document.cookie")
    assert not [url for url in requested if key.text in url]
    await page.close()
