"""The browser of the parts that need one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from qroar_core.errors import QRoarError

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, without a window.

    Raises:
        QRoarError: it or playwright is not installed.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise QRoarError("playwright is not installed", do="pip install -r requirements-dev.txt") from None
    from tests.pages.browser.walk import chromium_path

    found = chromium_path()
    if found is None:
        raise QRoarError("no Chromium here", do="apt-get install chromium")
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            yield opened
        finally:
            opened.close()
