"""What every committed notebook must be (design: one parameters cell, outputs, no noise, small)."""

from __future__ import annotations

import re
import statistics
import string
import subprocess
import sys

import nbformat
import pytest

from topo_utils import runs
from topo_utils.paths import NOTEBOOKS

COURSE = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
SOLUTIONS = sorted((NOTEBOOKS / "solutions").glob("*.ipynb"))


def name(path):
    return path.stem


def prose(path):
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")


every = pytest.mark.parametrize("path", [*COURSE, *SOLUTIONS], ids=name)


def test_there_are_notebooks_and_they_are_small():
    assert COURSE
    assert SOLUTIONS
    assert sum(path.stat().st_size for path in [*COURSE, *SOLUTIONS]) < 15_000_000


@every
def test_notebooks_carry_outputs_and_no_noise(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < 1_500_000
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code), "committed notebooks are executed: make notebooks"
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
    assert not any(output.get("name") == "stderr" for cell in code for output in cell.outputs)
    assert runs.clean(nbformat.read(path, as_version=4)) == notebook, "make notebooks strips what does not belong"
    text = path.read_text()
    assert not re.search(r'"/(home|root|tmp|Users|work)/', text), "a path of one machine"
    command = [sys.executable, "-m", "nbstripout", "--verify", "--keep-output", "--keep-count", "--keep-id", str(path)]
    assert subprocess.run(command, capture_output=True).returncode == 0


@every
def test_the_published_notebook_is_the_one_that_was_executed(path):
    """Counts run 1, 2, 3 …: one execution from top to bottom."""
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))


@every
def test_cells_are_short_and_the_parameters_literal(path):
    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert statistics.median(len(source.splitlines()) for source in code) <= 12
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if "parameters" not in cell.metadata.get("tags", [])]
    long = [cell.source for cell in cells if cell.cell_type == "code" and len(cell.source.splitlines()) > 25]
    assert not long, "a reader loses the thread"
    tags = [tag for cell in nbformat.read(path, as_version=4).cells for tag in cell.metadata.get("tags", [])]
    assert tags.count("parameters") == 1
    assert runs.declared_parameters(path)


@pytest.mark.parametrize("path", COURSE, ids=name)
def test_the_course_has_its_anatomy(path):
    text = prose(path)
    for part in ("**You will do**", "**You will learn**", "**You need**", "**Time**", "**Reading**", "*Predict", "*Figure"):
        assert part in text, part
    for heading in ("## Check yourself", "## What we learned", "## Limits", "## References"):
        assert heading in text, heading
    assert re.match(rf"# {path.stem[:2]} · ", text)
    assert (NOTEBOOKS / "solutions" / f"{path.stem[:2]}_solutions.ipynb").exists()


@pytest.mark.parametrize("path", COURSE, ids=name)
def test_each_prediction_is_answered_before_the_next(path):
    found = re.findall(r"\*(?:Predict|Answer):|Predict(?=:)", prose(path))
    kinds = ["answer" if "Answer" in each else "prediction" for each in found]
    assert kinds == ["prediction", "answer"] * (len(kinds) // 2), kinds


@pytest.mark.parametrize("path", COURSE, ids=name)
def test_each_exercise_has_a_grade_and_a_solution(path):
    text = prose(path)
    exercises = text[text.index("## Check yourself") : text.index("Solutions: `")]
    grades = re.findall(r"(?m)^(\d+)\. \*(Predict|Compute|Extend|Open)\.\* ", exercises)
    assert [number for number, _ in grades] == re.findall(r"(?m)^(\d+)\. ", exercises)
    assert [grade for _, grade in grades].count("Open") == 1
    assert exercises.count("<details><summary>Hint</summary>") == len(grades) - 1, "each but the open one has a hint"
    solutions = prose(NOTEBOOKS / "solutions" / f"{path.stem[:2]}_solutions.ipynb")
    solved = re.findall(r"(?m)^## (\d+) ", solutions)
    assert solved == [number for number, grade in grades if grade != "Open"], "an open one has no solution"


@pytest.mark.parametrize("path", COURSE, ids=name)
def test_solutions_have_the_settings_that_the_exercises_name(path):
    """Those of the notebook itself, or others where an exercise says so."""
    solution = NOTEBOOKS / "solutions" / f"{path.stem[:2]}_solutions.ipynb"
    here, there = runs.declared_parameters(path), runs.declared_parameters(solution)
    exercises = prose(path).split("## Check yourself")[1].split("Solutions: `")[0]
    others = {key: value for key, value in there.items() if key in here and here[key] != value}
    assert {key for key, value in others.items() if f"`{key}={value}`" not in exercises} == set()


GREEK = re.compile(r"\\(?:beta|gamma|delta|Delta|varepsilon|theta|lambda|Lambda|mu|pi|rho|sigma|Phi)(?![a-zA-Z])")


def symbols(text):
    """Letters in the formulas of a text, Greek ones by name; words in upright type are none."""
    text = re.sub(r"`[^`]*`", "", text)
    formulas = " ".join(a or b for a, b in re.findall(r"\$\$(.+?)\$\$|\$(.+?)\$", text, flags=re.DOTALL))
    upright = r"\\(?:text|operatorname|mathrm|begin|end)\*?\{(?:[^{}]|\{[^{}]*\})*\}"
    formulas = re.sub(upright, "", formulas)
    return {*GREEK.findall(formulas), *re.sub(r"\\[a-zA-Z]+", "", formulas)} & {
        *GREEK.findall(formulas),
        *string.ascii_letters,
    }


@pytest.mark.parametrize("path", COURSE, ids=name)
def test_each_symbol_is_in_the_table(path):
    """Of 00: a row for the symbol that names this notebook."""
    table = prose(NOTEBOOKS / "00_start_here.ipynb").split("## Symbols and words")[1].split("## References")[0]
    rows = re.findall(r"(?m)^\| (\$.+\$) \| .+ \| (all|[\d, ]+) \|$", table)
    assert len(rows) > 30
    known = set().union(*(symbols(row) for row, where in rows if where == "all" or path.stem[:2] in where.split(", ")))
    assert symbols(prose(path).replace(table, "")) - known == set()


@pytest.mark.parametrize(
    "path", sorted(NOTEBOOKS.glob("params/*/*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_parameter_profiles_fit_their_notebook(path):
    notebook = path.stem.partition("-")[0]  # what follows names a variant
    runs.resolve(NOTEBOOKS / f"{notebook}.ipynb", runs.read_parameters(path))
