"""A real browser: Debian's chromium or another one in the path (``CHROMIUM`` names it), moved by Playwright.

Run by ``make browser-test``, after ``make book``; not a part of ``make test``.
"""

from __future__ import annotations

import os
import shutil

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: make browser-test installs it")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is in the path, and CHROMIUM names none")
    with sync_api.sync_playwright() as playwright:
        sandboxed = [] if not hasattr(os, "geteuid") or os.geteuid() else ["--no-sandbox"]  # root has none
        with playwright.chromium.launch(executable_path=path, args=sandboxed) as opened:
            yield opened
