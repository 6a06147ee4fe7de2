"""Take pictures of the page in all its states, to look at, into build/page.

overtone serve &
python docs/make_page_pictures.py [http://127.0.0.1:8000]
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parents[1] / "build" / "page"
MICROPHONE = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


def picture(page: Any, name: str, full: bool = True) -> None:
    page.screenshot(path=FOLDER / f"{name}.png", full_page=full)
    print(FOLDER / f"{name}.png")


def enhance(page: Any, sample: str) -> None:
    page.get_by_role("button", name=sample).click()
    page.click("#enhance:enabled")
    page.wait_for_selector('body[data-busy="no"]')
    page.wait_for_selector("#download:enabled")
    page.wait_for_timeout(500)


def desktop(page: Any) -> None:
    picture(page, "start")
    enhance(page, "German voice")
    picture(page, "desktop")
    page.click("#more summary")
    page.click("#blind-start")
    picture(page, "more-and-blind-test")
    page.click("#live-tab")
    page.click("#live-start")
    page.wait_for_timeout(8_000)
    picture(page, "live")


def phone(page: Any) -> None:
    enhance(page, "Rock drums")
    picture(page, "phone")
    page.set_input_files("#file", {"name": "notes.wav", "mimeType": "audio/wav", "buffer": b"No sound at all.\n" * 40})
    page.click("#enhance:enabled")
    page.wait_for_selector('li[data-state="failed"]')
    picture(page, "error", full=False)


def main(address: str) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    small = {"is_mobile": True, "has_touch": True, "device_scale_factor": 2, "color_scheme": "dark"}
    sizes: list[tuple[Any, tuple[int, int], dict[str, Any]]] = [(desktop, (1280, 820), {}), (phone, (390, 844), small)]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", *MICROPHONE])
        for take, (width, height), options in sizes:
            context = browser.new_context(
                viewport={"width": width, "height": height}, permissions=["microphone"], **options
            )
            context.set_default_timeout(90_000)
            page = context.new_page()
            page.goto(address)
            take(page)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:] or ["http://127.0.0.1:8000"])
