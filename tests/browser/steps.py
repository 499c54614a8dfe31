"""What a visitor does on the page again and again."""

from playwright.async_api import Page, expect


async def show_example(page: Page) -> None:
    """Take the example, and wait for its forecast."""
    await page.get_by_role("button", name="Show the example").first.click()
    await expect(page.locator("#forecast-status")).to_contain_text("12 steps ahead")


async def drop(page: Page, name: str, content: bytes) -> None:
    """Choose a file."""
    await page.locator("#file").set_input_files(
        {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    )


async def paste(page: Page, text: str) -> None:
    """Paste a text and use it."""
    await page.get_by_label("Paste numbers").fill(text)
    await page.get_by_role("button", name="Use text").click()
