"""Records of a grid as one table: where they come from, what is missing, what does not belong."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest
import yaml

from topo_utils import paths, runs
from topo_utils.runs import RunError, comparison, sweep

from .notebooks import write

BODY = """\
import json, os, pathlib

folder = pathlib.Path(os.environ["TOPO_RUN_FOLDER"])
(folder / "metrics.json").write_text(json.dumps([{"model": "vae", "kl": n * 0.5}]))
"""


@pytest.fixture
def grid(tmp_path, home, monkeypatch):
    """Three runs of a notebook beside it, and results elsewhere."""
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    (tmp_path / "results").mkdir()
    write(tmp_path / "quick.ipynb", "n: int = 1", BODY)
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump([{"notebook": "quick", "cross": {"n": [1, 2, 3]}}]))
    return file


def published(tmp_path, *numbers):
    """Make these runs, keep their table under the grid's name, and remove the records."""
    made = [runs.execute(tmp_path / "quick.ipynb", {"n": n}) for n in numbers]
    runs.keep("tiny", made)
    for record in made:
        for file in sorted(record.rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
        record.rmdir()


def test_records_here_come_before_those_that_were_kept(grid, tmp_path):
    published(tmp_path, 1, 2)
    found = comparison.read(str(grid))
    assert found.source == "data/results (2)"
    assert sorted(found.table["kl"]) == [0.5, 1.0]
    assert len(found.missing) == 1
    runs.execute(tmp_path / "quick.ipynb", {"n": 2})
    runs.execute(tmp_path / "quick.ipynb", {"n": 3})
    found = comparison.read(str(grid))
    assert found.source == "data/runs (2) and data/results (1)"
    assert sorted(found.table["kl"]) == [0.5, 1.0, 1.5]
    assert not found.missing
    assert not found.left_out
    assert str(found).startswith("3 runs from data/runs (2) and data/results (1); commits: ")


def test_a_parameter_that_came_later_leaves_results_where_they_are(grid, tmp_path):
    """Names of records cover all parameters; what was published is known by those that it had."""
    published(tmp_path, 1, 2)
    write(tmp_path / "quick.ipynb", "n: int = 1\nkind: str = 'plain'\nlabels: list = [3]\nmost = None", BODY)
    found = comparison.read(str(grid))
    assert sorted(found.table["kl"]) == [0.5, 1.0]
    assert len(found.missing) == 1
    for changed in ({"kind": ["turned"]}, {"labels": [[4]]}, {"most": [7]}):
        grid.write_text(yaml.safe_dump([{"notebook": "quick", "cross": {"n": [1, 2]} | changed}]))
        with pytest.raises(RunError, match="no run of the grid"):
            comparison.read(str(grid))


def test_published_runs_are_known_by_their_parameters(grid, tmp_path):
    write(tmp_path / "quick.ipynb", "n: int = 1\nlabels: list = []\nmost = None", BODY)
    made = [
        runs.execute(tmp_path / "quick.ipynb", {"n": n, "labels": [n, 3], "most": most}) for n, most in ((1, None), (2, 5))
    ]
    runs.keep("tiny", made)
    for record in made:
        shutil.rmtree(record)
    blocks = [
        {"notebook": "quick", "shared": {"n": 1, "labels": [1, 3]}},
        {"notebook": "quick", "shared": {"n": 2, "labels": [2, 3], "most": 5}},
        {"notebook": "quick", "shared": {"n": 2, "labels": [2, 3]}},
        {"notebook": "quick", "shared": {"n": 1, "labels": [1, 3], "most": 5}},
        {"notebook": "quick", "shared": {"n": 1, "labels": [3, 1]}},
    ]
    grid.write_text(yaml.safe_dump(blocks))
    found = comparison.read(str(grid))
    assert found.table["run"].tolist() == [record.name for record in made]
    assert len(found.missing) == 3


def test_published_rows_of_a_runs_baseline_stay_with_it(grid, tmp_path):
    """A baseline of the same run has another weight, maybe that of a run of its own."""
    published(tmp_path, 1, 2)
    file = tmp_path / "results" / "tiny.csv"
    table = pd.read_csv(file)
    baselines = table.assign(model="plain", n=3)
    pd.concat([baselines, table]).sort_values(["run", "model"]).to_csv(file, index=False)
    found = comparison.read(str(grid))
    assert sorted(found.table["model"]) == ["plain", "plain", "vae", "vae"]
    assert len(found.missing) == 1, "none of these rows is the run of 3"
    comparison.keep(str(grid))
    assert len(pd.read_csv(file)) == 4


def test_the_time_of_an_epoch_is_that_of_the_runs_model(grid, tmp_path):
    made = [runs.execute(tmp_path / "quick.ipynb", {"n": n}) for n in (1, 2)]
    runs.keep("tiny", made)
    for record in made:
        shutil.rmtree(record)
    file = tmp_path / "results" / "tiny.provenance.json"
    origins = json.loads(file.read_text())
    origins[1]["models"] = {"vae": {"epoch_seconds": 0.25}, "other": {"epoch_seconds": 9.0}}
    file.write_text(json.dumps(origins))
    table = comparison.read(str(grid)).table
    assert table["epoch_seconds"].isna().tolist() == [True, False]
    assert table["epoch_seconds"][1] == 0.25


def test_tables_are_kept_in_parts(grid, tmp_path, capsys):
    """Runs of another day, whose records are gone, stay in the table, to the last digit."""
    write(tmp_path / "quick.ipynb", "n: int = 1", BODY.replace("n * 0.5", "1 / 3 + n"))
    published(tmp_path, 1, 2)
    before = pd.read_csv(tmp_path / "results" / "tiny.csv")
    runs.execute(tmp_path / "quick.ipynb", {"n": 3})
    assert sweep.main(["keep", str(grid)]) == 0
    assert "0 runs of the grid are still missing" in capsys.readouterr().out
    after = pd.read_csv(tmp_path / "results" / "tiny.csv")
    pd.testing.assert_frame_equal(after[:2], before, check_exact=True)
    assert after["kl"].tolist() == [1 / 3 + 1, 1 / 3 + 2, 1 / 3 + 3]
    origins = json.loads((tmp_path / "results" / "tiny.provenance.json").read_text())
    assert [each["run"] for each in origins] == after["run"].tolist()
    shutil.rmtree(paths.runs())
    found = comparison.read(str(grid))
    assert found.source == "data/results (3)"
    assert comparison.keep(str(grid)) == (tmp_path / "results" / "tiny.csv", [])
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "results" / "tiny.csv"), after)


def test_nothing_at_all_is_an_error_that_says_what_to_do(grid):
    with pytest.raises(RunError, match=r"no run of the grid .*make sweep"):
        comparison.read(str(grid))


def test_runs_of_other_code_are_left_out_and_named(grid, tmp_path):
    runs.execute(tmp_path / "quick.ipynb", {"n": 1})
    write(tmp_path / "quick.ipynb", "n: int = 1", BODY + "\n# other code")
    for n in (2, 3):
        runs.execute(tmp_path / "quick.ipynb", {"n": n})
    found = comparison.read(str(grid))
    assert sorted(found.table["kl"]) == [1.0, 1.5]
    ((run, reason),) = found.left_out.items()
    assert run == runs.name_of(tmp_path / "quick.ipynb", {"n": 1})
    assert "another code" in reason
    assert f"left out: {run}: another code" in str(found)


def test_runs_of_other_data_or_another_F_are_left_out():
    table = pd.DataFrame(
        {
            "run": list("abcdef"),
            "notebook": "06",
            "dataset": "torus",
            "seed": [0, 0, 0, 1, 1, 1],
            "code": "x",
            "train_digest": ["p", "p", "q", "r", "r", "r"],
            "features_digest": ["f", "f", "f", "g", "h", "g"],
        }
    )
    assert set(comparison._odd(table)) == {"c", "e"}
    assert not comparison._odd(table.drop(columns=["train_digest", "features_digest"]))


def test_other_numbers_of_items_and_kinds_of_F_may_be_compared():
    table = pd.DataFrame(
        {
            "run": list("abcdef"),
            "notebook": "06",
            "dataset": "torus",
            "seed": 0,
            "limit": [100, 100, None, None, None, 100],
            "features": ["plain", "plain", "plain", "geodesic", "geodesic", "plain"],
            "train_digest": ["p", "p", "q", "q", "q", "r"],
            "features_digest": ["f", "f", "g", "h", "h", "f"],
        }
    )
    assert set(comparison._odd(table)) == {"f"}


def test_changes_are_told_from_what_most_runs_of_a_data_set_have(tmp_path):
    notebook = write(
        tmp_path / "quick.ipynb", "dataset: str = 'torus'\nseed: int = 0\ngamma: float = 1.0\nlevels = None", ""
    )
    table = pd.DataFrame(
        {
            "dataset": ["torus"] * 5 + ["roll"] * 3,
            "seed": range(8),
            "gamma": [1.0, 1.0, 30.0, 1.0, 0.5, 30.0, 30.0, 1.0],
            "levels": [None, None, None, 5.0, 5.0, None, None, None],
            "kl": 1.0,
        }
    )
    wanted = ["", "", "gamma 30", "levels 5", "gamma 0.5, levels 5", "", "", "gamma 1"]
    assert comparison.changes(table, notebook).tolist() == wanted


def test_the_steps_of_a_training_are_counted_with_those_of_its_F():
    common = {"dataset": "digits", "batch_size": 128, "encoder_from": "random", "gamma_latent": 0.0}
    rows = [
        {"epochs": 31, "train_items": 2000},  # 15 whole batches
        {"epochs": 31, "train_items": 2000, "gamma_latent": 30.0},
        {"epochs": 31, "train_items": 2000, "encoder_from": "features"},
        {"epochs": 3, "train_items": 500, "gamma_latent": 30.0},
        {"epochs": 2, "train_items": 2000, "gamma_latent": 300.0, "dataset": "torus"},  # points are their own features
    ]
    steps = comparison.optimiser_steps(pd.DataFrame([{**common, **row} for row in rows]))
    assert list(steps["own"]) == [465, 465, 465, 9, 30]
    # F: 38 epochs of 16 batches (600 steps at least), 153 of 4; it takes the odd batch, too
    assert list(steps["with_features"]) == [465, 465 + 608, 465 + 608, 9 + 612, 30]


def test_a_damaged_record_is_an_error(grid, tmp_path):
    record = runs.execute(tmp_path / "quick.ipynb", {"n": 1})
    (record / "metrics.json").write_text(json.dumps([{"model": "vae", "kl": 7.0}]))
    with pytest.raises(RunError, match="no whole record"):
        comparison.read(str(grid))
