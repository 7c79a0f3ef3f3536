"""The book: the committed notebooks, as they are, and the reference of topo_utils. Built by `make book`."""

import importlib.util
import re
from pathlib import Path

from topo_utils import __version__

project = "Topology-aware latent spaces"
author = copyright = "The compendium's authors"
release = __version__
html_title = project
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx.ext.mathjax"]

# the source folder is notebooks/, this folder only configures: nothing is copied
root_doc = "book/index"
include_patterns = ["book/*.md", "book/api/*.md", "[0-9][0-9]_*.ipynb", "solutions/*.ipynb"]
nb_execution_mode = "off"  # the outputs are the committed ones
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 2

autodoc_typehints = "signature"
autodoc_inherit_docstrings = False  # those of other libraries have markup of their own
autodoc_default_options = {"members": True}
napoleon_google_docstring = False

# formulas are drawn by one file that comes with a package: the pages ask no other host for anything
html_theme = "sphinx_book_theme"
html_favicon = "favicon.svg"  # else browsers ask for one that is not there
html_context = {"default_mode": "auto"}  # else each first visit is an error in the browser's console
html_theme_options = {"use_download_button": False, "use_fullscreen_button": False, "show_toc_level": 2}
package = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent
html_static_path = [str(package / "static" / "mathjax" / "tex-svg-full.js"), "book.css"]
html_css_files = ["book.css"]
mathjax_path = "tex-svg-full.js"


def without_stars(app, what, name, obj, options, lines):
    """Shapes such as "*batch n d" are no emphasis."""
    lines[:] = [re.sub(r"([\"'])\*", r"\1\\*", line) for line in lines]


def without_fields(app, what, name, obj, skip, options):
    """The fields of a NamedTuple are described in its docstring already."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app):
    app.set_html_assets_policy("always")  # headings with formulas stand in the margin of every page
    app.connect("autodoc-process-docstring", without_stars)
    app.connect("autodoc-skip-member", without_fields)
