from __future__ import annotations

import re
import subprocess
import tomllib

import pytest
import yaml

from topo_utils import __version__
from topo_utils.paths import REPOSITORY

PROJECT, TOOLS = map(tomllib.loads((REPOSITORY / "pyproject.toml").read_text()).get, ("project", "tool"))
LOCK = (REPOSITORY / "requirements.lock").read_text()


def name_of(requirement):
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_environment_yml_installs_this_project_and_agrees_with_pyproject():
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    conda = [item for item in environment["dependencies"] if isinstance(item, str)]
    (by_pip,) = (item["pip"] for item in environment["dependencies"] if isinstance(item, dict))
    assert f"python{PROJECT['requires-python']}" in conda
    assert set(conda) == {f"python{PROJECT['requires-python']}", "pip"}, "versions live in pyproject.toml alone"
    assert by_pip == ["-e .[dev]"]
    assert "dev" in PROJECT["optional-dependencies"]


def test_the_lock_holds_every_dependency_with_hashes_and_no_index():
    locked = {name_of(line) for line in LOCK.splitlines() if line and not line.startswith((" ", "#"))}
    wanted = {name_of(item) for item in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]}
    assert wanted <= locked
    requirements = re.split(r"\n(?=\S)", LOCK.strip())
    assert all("--hash=sha256:" in text for text in requirements if not text.startswith("#"))
    assert "://" not in LOCK
    assert "--index" not in LOCK
    assert "--find-links" not in LOCK


def test_the_lock_fits_the_ranges():
    pinned = dict(re.findall(r"^([\w.-]+)==([\w.+]+)", LOCK, re.M))
    assert pinned["torch"].startswith("2.11.")
    assert pinned["torchvision"].startswith("0.26.")


def test_versions_and_licence_agree():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert PROJECT["dynamic"] == ["version"]  # hatch reads it where Python does
    assert TOOLS["hatch"]["version"]["path"] == "topo_utils/__init__.py"
    newest = re.search(r"^## (\d\S*)", (REPOSITORY / "CHANGELOG.md").read_text(), re.M).group(1)
    assert citation["version"] == newest == __version__
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert "MIT License" in (REPOSITORY / "LICENSE").read_text()


def test_make_help_lists_every_target():
    makefile = (REPOSITORY / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.M).group(1).split()
    listed = subprocess.run(["make", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^  make ([\w-]+)", listed, re.M) == phony
    assert {"help", "env", "lab", "run", "test", "unit", "nbtest", "notebooks", "mutants", "lint", "clean"} <= set(phony)


def tracked():
    try:
        answer = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [REPOSITORY / name for name in answer.stdout.splitlines() if (REPOSITORY / name).is_file()]


def test_the_top_level_is_as_the_user_fixed_it():
    allowed = {"notebooks", "topo_utils", "data", "tests", "environment.yml", "README.md", "Makefile"}
    packaging = {"pyproject.toml", "requirements.lock", "LICENSE", "CITATION.cff", "CONTRIBUTING.md", "CHANGELOG.md"}
    names = {file.relative_to(REPOSITORY).parts[0] for file in tracked()}
    assert {name for name in names if not name.startswith(".")} <= allowed | packaging


def test_no_data_set_is_committed():
    kept = [file.relative_to(REPOSITORY) for file in tracked() if file.is_relative_to(REPOSITORY / "data")]
    assert all(file.parts[1] in ("README.md", "results") for file in kept)
