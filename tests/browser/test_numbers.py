"""Numbers as people write and read them: pasted text, shown values."""

import pytest
from playwright.async_api import Page, expect

from tests.browser.steps import paste

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOTATIONS = {
    "list": ("112, 118,132,", "112 118 132"),
    "negative": ("-1.5 \u22122 +3e2 .5", "-1.5 -2 +3e2 .5"),
    "missing words": ("1 NA n/a - null 6", "1 NaN NaN NaN NaN 6"),
    "missing in a list": ("112, , 132,,140", "112 NaN 132 NaN 140"),
    "missing between tabs": ("112\t\t132", "112 NaN 132"),
    "empty cell of a column": ("112\n118\n\n132\n", "112 118 NaN 132"),
    "each second line empty": ("112\n\n118\n\n132\n", "112 118 132"),
    "rows of a printout": ("112 118 132\n129 121", "112 118 132 129 121"),
    "decimal commas": ("1,5; 2,25; -3,125", "1.5 2.25 -3.125"),
    "decimal commas, some whole": ("12,5\n13\n14,25", "12.5 13 14.25"),
    "decimal commas, missing": ("1,5;;2,5", "1.5 NaN 2.5"),
    "decimal commas, points for thousands": ("1.234,5 1.300 950,25", "1234.5 1300 950.25"),
    "commas for thousands": ("1,234.5\n2,345.75", "1234.5 2345.75"),
    "commas for thousands, some small": ("950\n1,020\n1,100", "950 1020 1100"),
    "spaces for thousands": ("1\u202f234\n1\u00a0300\n950", "1234 1300 950"),
    "apostrophes for thousands": ("1'234.5 1\u2019300", "1234.5 1300"),
}


async def column(page: Page, text: str) -> list[str]:
    script = "async text => (await import('/assets/pasted.js')).toCsv(text).content"
    return str(await page.evaluate(script, text)).split("\n")


@pytest.mark.parametrize(("text", "values"), NOTATIONS.values(), ids=NOTATIONS.keys())
async def test_pasted_notation_is_read(page: Page, text: str, values: str) -> None:
    assert await column(page, text) == ["value", *values.split(" "), ""]


async def test_table_with_a_header_is_left_as_it_is(page: Page) -> None:
    table = "day;sold\n2024-01-01;1,5"
    assert await column(page, table) == table.split("\n")


async def test_decimal_commas_are_said(page: Page) -> None:
    await paste(page, "1,234 1,300 1,250 1,400")
    await expect(page.locator("#data-status")).to_contain_text("with decimal commas: 4 rows")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
async def test_rows_without_a_header_keep_the_first_one(page: Page, separator: str) -> None:
    await paste(page, "".join(f"2024-{n:02}-01{separator}{n}\n" for n in range(1, 13)))
    await expect(page.locator("#data-status")).to_contain_text("12 rows, 1 series, every month")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567.6, "1,234,568"),
        (123.4567, "123.46"),
        (0.00123456, "0.0012346"),
        (1.5e30, "1.5E30"),
        (-2e-7, "-2E-7"),
        (0, "0"),
    ],
)
async def test_number_is_shown_in_all_its_whole_digits(page: Page, value: float, text: str) -> None:
    script = "async value => (await import('/assets/format.js')).formatNumber(value)"
    assert await page.evaluate(script, value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(950_000, "950,000"), (12_500_000_000, "12.5B"), (-1e30, "-1E30")]
)
async def test_tick_of_an_axis_is_short(page: Page, value: float, text: str) -> None:
    script = "async value => (await import('/assets/format.js')).formatTick(value)"
    assert await page.evaluate(script, value) == text
