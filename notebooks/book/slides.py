"""Slides of notebooks 01 to 04 for a lecture: what a listener needs of them, in their order. Run by ``make slides``.

Of each section its formulas, its figures with what they show, the questions and, a slide below, their answers; no code.
Arrows to the right go from section to section, arrows down through one. The pages need no network: reveal.js and MathJax
come with packages.
"""

from __future__ import annotations

import html
import importlib.util
import re
import shutil
import sys
from pathlib import Path

import nbformat

NOTEBOOKS = Path(__file__).resolve().parents[1]
SHOWN = ("01_persistent_homology", "02_landscapes_and_images", "03_differentiating_persistence", "04_the_regularizer")
LAST = "## What we learned"  # what follows is for readers
SKIPPED = "## Check yourself"
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><link rel="icon" href="favicon.svg">
<link rel="stylesheet" href="reveal/dist/reveal.css"><link rel="stylesheet" href="reveal/dist/theme/white.css">
<link rel="stylesheet" href="slides.css">
<script>MathJax = {{svg: {{fontCache: "global"}}}}</script><script src="tex-svg-full.js" defer></script></head>
<body><div class="reveal"><div class="slides">
{slides}
</div></div>
<script src="reveal/dist/reveal.js"></script>
<script>Reveal.initialize({{hash: true, width: 1280, height: 800, margin: 0.04, center: true, transition: "none"}})</script>
</body></html>
"""


def slides_of(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """Sections, each a list of slides in markdown; a picture is an ``img`` element."""
    title, about, *_ = notebook.cells[0].source.split("\n\n")
    sections, pictures = [[f"{title}\n\n{_short(about)}"]], []
    for cell in notebook.cells[1:]:
        if cell.cell_type == "code":
            pictures += _pictures(cell)
            continue
        for block in re.split(r"\n\s*\n", cell.source):
            if block.startswith(SKIPPED):
                break
            if block.startswith("## "):
                sections.append([block])
            elif block.startswith("*Figure") and pictures:
                sections[-1].append(pictures.pop() + "\n\n" + _short(block))
                pictures.clear()
            elif block.startswith(LAST) or block.startswith(("*Predict", "*Answer")) or "$$" in block:
                sections[-1].append(block)
            elif block.startswith("- ") and sections[-1][0].startswith(LAST):
                sections[-1][0] += "\n\n" + block
        for answer in re.findall(r"\*Answer:\* [^\n]+(?:\n[^\n]+)*", cell.source):
            if answer not in sections[-1]:
                sections[-1].append(_short(answer))
        if any(section[0].startswith(LAST) for section in sections):
            break
    return [section for section in sections if len(section) > 1 or section is sections[0] or section[0].startswith(LAST)]


def _pictures(cell: nbformat.NotebookNode) -> list[str]:
    found = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
    return [f'<img alt="" src="data:image/png;base64,{"".join(each.split())}">' for each in found]


def _short(text: str, sentences: int = 3) -> str:
    """The first sentences of a paragraph."""
    parts = re.split(r"(?<=[.?!*])\s+(?=[A-Z*$])", " ".join(text.split()))
    return " ".join(parts[:sentences])


def _math(content: str, options: dict) -> str:
    begin, end = (r"\[", r"\]") if options.get("display_mode") else (r"\(", r"\)")
    return begin + html.escape(content.strip()) + end


def render(sections: list[list[str]]) -> str:
    from markdown_it import MarkdownIt  # here, so that what is shown can be tested without the extra `book`
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    markdown = MarkdownIt("commonmark", {"html": True}).enable("table")
    dollarmath_plugin(markdown, renderer=_math)
    stacks = []
    for section in sections:
        inner = "\n".join(f"<section>{markdown.render(each)}</section>" for each in section)
        stacks.append(f"<section>\n{inner}\n</section>")
    return "\n".join(stacks)


def _folder_of(package: str) -> Path:
    return Path(importlib.util.find_spec(package).origin).parent


def main(target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    shutil.copytree(_folder_of("sphinx_revealjs") / "_static" / "revealjs", target / "reveal", dirs_exist_ok=True)
    shutil.copy(_folder_of("sphinx-mathjax-offline") / "static" / "mathjax" / "tex-svg-full.js", target)
    for name in ("slides.css", "favicon.svg"):
        shutil.copy(Path(__file__).with_name(name), target)
    for name in SHOWN:
        sections = slides_of(nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4))
        title = sections[0][0].splitlines()[0].removeprefix("# ")
        (target / f"{name}.html").write_text(PAGE.format(title=html.escape(title), slides=render(sections)))
        print(f"{target / name}.html: {sum(map(len, sections))} slides in {len(sections)} sections")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
