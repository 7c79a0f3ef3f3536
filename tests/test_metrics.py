from __future__ import annotations

import csv
import json
import re
import subprocess
import sys

import pytest

from topo_utils import paths
from topo_utils.config import RunConfig
from topo_utils.metrics import METRICS, described, metric


def test_names_units_and_directions_are_in_order():
    for name, each in METRICS.items():
        assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name), name
        assert each.meaning.strip(), name
        assert each.unit.strip(), name
        assert each.better in ("lower", "higher", None), name


def test_no_two_metrics_read_alike():
    texts = [described(name) for name in METRICS]
    assert len(set(texts)) == len(texts)
    assert len({each.meaning for each in METRICS.values()}) == len(METRICS)


def test_a_metric_is_described_in_one_line():
    assert described("kl") == "KL to the prior [nats]"
    assert described("valid") == "valid molecules among the samples, before any repair [share], higher is better"
    assert described("bond_error").endswith("[Å], lower is better")


def test_a_number_at_the_end_enters_the_meaning():
    assert described("h1_gaussian_64").startswith("batches of 64 told from Gaussian ones")
    assert metric("h1_gaussian_64") != metric("h1_gaussian_128")
    assert "4-connected" in described("betti_f1_4")  # a name of its own


@pytest.mark.parametrize("name", ["bogus", "", "KL", "bottleneck_64", "frechet_classifier_500", "h0_gaussian_x", "_64"])
def test_an_unknown_metric_is_an_error_that_says_where_one_is_added(name):
    with pytest.raises(ValueError, match=rf"name: wanted a metric that topo_utils/metrics\.py has .*added.*got '{name}'"):
        described(name)


# what a record says of itself and of where a model comes from
ORIGIN = {
    "run",
    "notebook",
    "model",
    "data",
    "code",
    "family",
    "item_shape",
    "train_items",
    "train_digest",
    "features_digest",
}


def columns(file):
    with file.open(newline="") as lines:
        return next(csv.reader(lines))


@pytest.mark.parametrize("table", sorted(file.stem for file in paths.RESULTS.glob("0*.csv")))
def test_every_column_of_a_published_table_is_a_parameter_or_a_metric(table):
    (notebook,) = paths.NOTEBOOKS.glob(f"{table[:2]}_*.ipynb")
    cells = json.loads(notebook.read_text())["cells"]
    declared = "".join("".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", []))
    parameters = set(re.findall(r"^(\w+)[^=\n]*=", declared, re.MULTILINE))
    configured = {field for schema in RunConfig.__subclasses__() for field in schema.model_fields}
    for name in set(columns(paths.RESULTS / f"{table}.csv")) - parameters - configured - ORIGIN:
        described(name)


def test_the_table_is_light():
    heavy = "import sys, topo_utils.metrics; print(sorted({'torch', 'numpy', 'pandas', 'lightning'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
