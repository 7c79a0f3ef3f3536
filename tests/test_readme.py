"""README is true: its code runs, its links lead somewhere, its run times are those of the records."""

from __future__ import annotations

import json
import re

import pytest

from topo_utils.datasets import REGISTRY
from topo_utils.paths import NOTEBOOKS, REPOSITORY, RESULTS

README = (REPOSITORY / "README.md").read_text()


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_code_blocks_run(code):
    exec(compile(code, "README.md", "exec"), {})


def test_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert "://" in link or (REPOSITORY / link).exists(), link


def test_every_notebook_is_in_the_map_with_its_measured_time():
    for notebook in [*NOTEBOOKS.glob("[0-9]*.ipynb"), *(NOTEBOOKS / "solutions").glob("*.ipynb")]:
        record = json.loads((RESULTS / f"{notebook.stem}.provenance.json").read_text())
        row = re.search(rf"^\| \[{notebook.stem}\]\(\S+\) \| .* \| (\d+) s \|$", README, re.MULTILINE)
        assert row, f"{notebook.stem} is missing in README's map"
        assert int(row.group(1)) == round(record["wall_seconds"])


def test_every_command_named_is_a_target():
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in re.findall(r"`make (\w+)`|^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{''.join(target)}:", makefile, re.MULTILINE)


def test_parameter_files_named_exist():
    for file in re.findall(r"notebooks/params/[\w/]+\.yaml", README):
        assert (REPOSITORY / file).exists()


def test_every_data_set_is_described():
    described = (REPOSITORY / "data" / "README.md").read_text()
    for name in REGISTRY:
        assert f"`{name}`" in described, name
