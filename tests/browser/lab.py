"""JupyterLab in a browser, as a reader opens it: the notebooks run from a fresh kernel, and what can be moved moves."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

import nbformat
import pytest

from topo_utils.paths import NOTEBOOKS

PATIENCE = 200_000  # ms, for a notebook
NUMBERED = """() => {
    const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(each => each.textContent.trim());
    return prompts.length > 5 && prompts.every(each => /^\\[\\d+\\]:?$/.test(each));
}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A server in a folder with copies of the two notebooks."""
    folder = tmp_path_factory.mktemp("lab")
    for name in ("00_start_here", "01_persistent_homology"):
        _copy_without_outputs(NOTEBOOKS / f"{name}.ipynb", folder)
    settings = folder / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')  # cells out of view are there, too
    runtime = folder / "runtime"
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--ServerApp.token=token", "--allow-root"]
    environment = os.environ | {
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "spaces"),
    }
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([*command, "--port=0"], cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            yield _address(runtime, server, folder / "log")
        finally:
            server.terminate()
            server.wait()


def _copy_without_outputs(notebook, folder) -> None:
    """So that what is seen later comes from this run."""
    found = nbformat.read(notebook, as_version=4)
    for cell in found.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(found, folder / notebook.name)


def _address(runtime, server, log) -> str:
    """Of the server, once it answers: its file is there somewhat before."""
    for _ in range(600):
        assert server.poll() is None, log.read_text()
        for file in runtime.glob("jpserver-*.json"):
            with contextlib.suppress(URLError):
                url = json.loads(file.read_text())["url"]
                urlopen(f"{url}api?token=token").close()
                return url
        time.sleep(0.1)
    raise TimeoutError(log.read_text())


@pytest.fixture
def notebook(browser, lab):
    """Open a notebook and run all cells; returns its page when the last one is done."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()

    def run_all(name: str):
        page.goto(f"{lab}lab/workspaces/{name}/tree/{name}.ipynb?token=token")
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)  # sooner, it would ask for a kernel
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_function(NUMBERED, timeout=PATIENCE)
        return page

    yield run_all
    context.close()


def _errors(page) -> list[str]:
    return page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']").all_inner_texts()


def test_the_first_notebook_runs_to_its_end(notebook):
    page = notebook("00_start_here")
    assert not _errors(page)
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()
    cells = nbformat.read(NOTEBOOKS / "00_start_here.ipynb", as_version=4).cells
    assert prompts == [f"[{number}]:" for number, _ in enumerate([c for c in cells if c.cell_type == "code"], start=1)]
    assert page.locator(".jp-OutputArea-output img").count() > 2, "its figures are there"


def test_the_filtration_moves(notebook):
    page = notebook("01_persistent_homology")
    assert not _errors(page)
    handle = page.locator(".jp-Notebook .widget-slider .noUi-handle").first
    handle.scroll_into_view_if_needed()
    picture = page.locator(".widget-output img").first
    before = picture.get_attribute("src")
    handle.focus()
    for _ in range(10):
        handle.press("ArrowRight")
    page.wait_for_function("old => document.querySelector('.widget-output img')?.src != old", arg=before, timeout=30_000)
