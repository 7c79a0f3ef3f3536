"""CONTRIBUTING.md is true: its examples are followed in a copy of the package, in no more files than it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest

from topo_utils.paths import REPOSITORY

TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
STEP = re.compile(
    r"^(?:New file `(?P<new>[^`]+)`|In `(?P<file>[^`]+)`, (?P<how>below|before|replace) `(?P<place>[^`]+)`(?: by)?|"
    r"(?P<then>Then)|(?P<cells>Cells)):\n\n```python\n(?P<code>.*?)```$",
    re.MULTILINE | re.DOTALL,
)
FILES = {"A data set": 1, "A domain": 3, "A family of models": 3, "A regulariser": 2, "A metric": 2, "An experiment": 1}


def changed(text: str, how: str, place: str, code: str) -> str:
    assert text.count(place) == 1, f"{place!r} stands {text.count(place)} times"
    if how == "replace":
        return text.replace(place, code.rstrip("\n"))
    if how == "before":
        return text.replace(place, code + place)
    return text.replace(place + "\n", f"{place}\n{code}")


def as_notebook(code: str, path: str) -> None:
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in code.split("# %%\n")]
    cells[0].metadata["tags"] = ["parameters"]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(notebook, path)


def test_every_kind_has_its_example():
    assert list(SECTIONS) == list(FILES)
    assert TEXT.count("```python") == sum(len(list(STEP.finditer(section))) for section in SECTIONS.values())


@pytest.mark.parametrize("section", FILES)
def test_the_example_works_in_a_copy(section, tmp_path):
    shutil.copytree(REPOSITORY / "topo_utils", tmp_path / "topo_utils", ignore=shutil.ignore_patterns("__pycache__"))
    touched, check = set(), ""
    for step in STEP.finditer(SECTIONS[section]):
        if step["then"]:
            check = step["code"]
        elif step["cells"]:
            as_notebook(step["code"], tmp_path / "experiment.ipynb")
            touched.add("experiment.ipynb")
        else:
            name = step["new"] or step["file"]
            file = tmp_path / name
            assert file.exists() is (step["new"] is None)
            file.write_text(step["code"] if step["new"] else changed(file.read_text(), *step.group("how", "place", "code")))
            touched.add(name)
    assert len(touched) == FILES[section]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "TOPO_HOME": str(tmp_path / "home")}
    code = f"NOTEBOOK = {str(tmp_path / 'experiment.ipynb')!r}\n{check}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
