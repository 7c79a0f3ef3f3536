"""Every page of the book and every slide in a browser: nothing fails, nothing is fetched elsewhere, nothing sticks out."""

from __future__ import annotations

import contextlib
import functools
import http.server
import re
import threading
from urllib.parse import urlparse

import pytest

from topo_utils.paths import NOTEBOOKS

BOOK, SLIDES = (NOTEBOOKS.parent / "build" / name for name in ("book", "slides"))
PAGES = sorted(str(page) for page in (page.relative_to(BOOK) for page in BOOK.rglob("*.html")) if page.parts[0][0] != "_")
WIDTHS = [(BOOK, 1280), (BOOK, 400)]
LEFT = "net::ERR_ABORTED"  # the reader went on before a file had come


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def served():
    """Addresses of folders."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda folder: stack.enter_context(_server(folder)))


@contextlib.contextmanager
def _server(folder):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def opened(browser, served, request):
    """Open a page at a width; what went wrong meanwhile is an error at the end."""
    folder, width = getattr(request, "param", (BOOK, 1280))
    assert folder.exists(), "make book and make slides come before this"
    site = served(folder)
    context = browser.new_context(viewport={"width": width, "height": 900})
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda asked: wrong.append(f"failed: {asked.url}") if asked.failure != LEFT else None)
    page.on("response", lambda got: wrong.append(f"{got.status}: {got.url}") if got.status >= 400 else None)
    page.on("request", lambda asked: wrong.append(f"elsewhere: {asked.url}") if _elsewhere(asked.url, site) else None)

    def open_page(name: str):
        page.goto(f"{site}/{name}", wait_until="networkidle")
        return page

    yield open_page
    context.close()
    assert not wrong


def _elsewhere(url: str, site: str) -> bool:
    return urlparse(url).scheme in ("http", "https") and not url.startswith(site)


@pytest.mark.parametrize("opened", WIDTHS, indirect=True, ids=["wide", "narrow"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole(opened, name):
    page = opened(name)
    source = (BOOK / name).read_text()
    page.evaluate("window.MathJax ? MathJax.startup.promise : null")
    formulas = page.locator("mjx-container")
    assert (formulas.count() > 0) == ('class="math' in source)
    assert page.locator("mjx-merror").count() == 0, "a formula that MathJax cannot read"
    for picture in page.locator("main img").all():
        assert picture.evaluate("image => image.complete && image.naturalWidth > 0"), picture.get_attribute("src")
    sticks_out = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert sticks_out <= 0, f"{sticks_out} pixels are beyond the window"


@pytest.mark.parametrize("opened", WIDTHS, indirect=True, ids=["wide", "narrow"])
def test_wide_things_can_be_scrolled_to(opened):
    """Formulas and tables that are wider than the column have a scroll bar of their own."""
    for name in ("04_the_regularizer.html", "15_results_report.html"):
        hidden = opened(name).evaluate(
            """() => [...document.querySelectorAll('main div.math, main table')].filter(thing => {
                for (let box = thing; box && box.tagName != 'MAIN'; box = box.parentElement) {
                    if (['auto', 'scroll'].includes(getComputedStyle(box).overflowX)) return false;
                }
                return thing.getBoundingClientRect().right > window.innerWidth;
            }).map(thing => thing.textContent.slice(0, 60))"""
        )
        assert not hidden


@pytest.mark.parametrize("opened", [(SLIDES, 1280)], indirect=True)
@pytest.mark.parametrize("name", sorted(page.name for page in SLIDES.glob("*.html")))
def test_a_slide_holds_what_is_on_it(opened, name):
    page = opened(name)
    page.evaluate("MathJax.startup.promise")
    assert page.locator("mjx-container").count()
    assert not page.locator("mjx-merror").count()
    too_long = page.evaluate(
        """() => Reveal.getSlides().filter(slide => {
            const at = Reveal.getIndices(slide);
            Reveal.slide(at.h, at.v);
            return slide.scrollHeight > 800 || slide.scrollWidth > 1280;
        }).map(slide => `${slide.scrollWidth} x ${slide.scrollHeight}: ${slide.textContent.slice(0, 60)}`)"""
    )
    assert not too_long


def test_the_search_finds_landscapes(opened):
    page = opened("search.html?q=landscape")
    page.wait_for_selector("#search-results li a", timeout=20_000)
    found = page.locator("#search-results li a").all_inner_texts()
    assert any(re.search("[Ll]andscape", title) for title in found)


def test_the_course_can_be_walked_through(opened):
    """By the link to the next page, from the first notebook to the report."""
    page = opened("00_start_here.html")
    for _ in range(30):
        if "15_results_report" in page.url:
            return
        page.locator("a.right-next").first.click()
        page.wait_for_load_state("networkidle")
    pytest.fail(f"the links end at {page.url}")
