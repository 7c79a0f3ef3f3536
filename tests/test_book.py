"""The book's own pages: what they name is there. That all of it can be built is for `make book` to show."""

from __future__ import annotations

import importlib.util
import re

import nbformat
import pytest

from topo_utils.paths import NOTEBOOKS

PAGES = sorted((NOTEBOOKS / "book").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_pictures_are_there(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def rows(table):
    """Minutes, notebook and the numbers of the sections of each row."""
    for minutes, name, sections in re.findall(r"\| (\d+) \| \[\d\d\]\(\.\./(\S+?)\.ipynb\) \| ([\d, to]+|all) \|", table):
        named = [] if sections == "all" else re.findall(r"\d+", sections)
        yield int(minutes), name, named


def test_the_ways_through_the_course_name_sections_that_there_are():
    workshop, day = (NOTEBOOKS / "book" / "paths.md").read_text().split("\n## ")[1:3]
    assert sum(minutes for minutes, _, _ in rows(workshop)) == 120
    assert 6 * 60 <= sum(minutes for minutes, _, _ in rows(day)) <= 8 * 60
    for _, name, named in [*rows(workshop), *rows(day)]:
        cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        assert set(named) <= set(re.findall(r"(?m)^## (\d+) ", text)), name


def test_the_questions_name_the_sections_that_answer_them():
    text = (NOTEBOOKS / "book" / "quiz.md").read_text()
    found = re.findall(r"\*Where:\* \[\d\d\]\(\.\./(\S+?)\.ipynb\), sections? ([\d and,]+)\.", text)
    assert len(found) == len(re.findall(r"(?m)^\d+\. ", text)) == text.count("<details>") == 10
    for name, sections in found:
        cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
        headings = [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
        for number in re.findall(r"\d+", sections):
            assert any(line.startswith(f"## {number} ") for line in headings), (name, number)


def test_slides_have_the_figures_formulas_and_questions_and_no_code():
    spec = importlib.util.spec_from_file_location("slides", NOTEBOOKS / "book" / "slides.py")
    slides = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(slides)
    for name in slides.SHOWN:
        notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
        text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        shown = [slide for section in slides.slides_of(notebook) for slide in section]
        asked = sum("*Predict" in slide for slide in shown), sum("*Answer" in slide for slide in shown)
        assert asked[0] == len(re.findall(r"\*Predict", text.split("## Check yourself")[0]))
        assert asked[1] >= asked[0]
        assert sum("<img" in slide for slide in shown) >= 5
        assert sum("$$" in slide for slide in shown) == len([b for b in re.split(r"\n\s*\n", text) if "$$" in b])
        assert len(shown) == len(set(shown))
        assert shown[-1].startswith(slides.LAST)
        assert "import " not in "".join(shown)
