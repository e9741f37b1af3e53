"""The Chromium that takes pictures, set up as the one that the tests look through."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.integrations.web.conftest import SWITCHES

#: The largest picture that the manual takes, in bytes.
LARGEST = 200_000


@contextmanager
def chromium() -> Iterator[Any]:
    """Run a headless Chromium with a profile of its own; give its driver."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for switch in (*SWITCHES, "--hide-scrollbars"):
        options.add_argument(switch)
    with tempfile.TemporaryDirectory(prefix="polysync-pictures-") as profile:
        options.add_argument(f"--user-data-dir={profile}")
        driver = webdriver.Chrome(options, Service(str(shutil.which("chromedriver"))))
        try:
            yield driver
        finally:
            driver.quit()


def look(driver: Any, width: int, height: int, scheme: str = "light") -> None:
    """Have a screen of this size, and a taste for light or dark pages."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
    )
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )


def take(driver: Any, path: Path) -> None:
    """Take a picture of the page, once what is moving has come to rest."""
    driver.execute_script("document.activeElement?.blur()")
    driver.execute_async_script("setTimeout(arguments[0], 700)")
    driver.save_screenshot(str(path))
    size = path.stat().st_size
    if size > LARGEST:
        raise SystemExit(f"{path} has {size:,} bytes, which is too large")
    print(path)
