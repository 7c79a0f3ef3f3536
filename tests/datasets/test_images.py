from __future__ import annotations

import functools
import gzip
import hashlib
import struct
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from torchvision.datasets import MNIST

from topo_utils import datasets, paths
from topo_utils.datasets import DataError, Dataset, load
from topo_utils.datasets.__main__ import main


def test_digits_are_whole_and_balanced():
    sizes = {"train": 2700, "validation": 500, "test": 1000, "judge": 800}
    for split, size in sizes.items():
        data = load("digits", split)
        assert data.items.shape == (size, 1, 28, 28)
        assert data.items.dtype == torch.float32
        assert (data.items.min(), data.items.max()) == (0, 1)
        assert data.labels.bincount().tolist() == [size // 10] * 10
    everything = torch.cat([load("digits", split).items for split in sizes])
    assert everything.mean().item() == pytest.approx(0.13, abs=0.005)  # MNIST's is 0.1307


def test_splits_have_no_image_in_common():
    seen = {}
    for split in datasets.SPLITS:
        for item in load("digits", split).items:
            key = hashlib.sha256(item.numpy().tobytes()).hexdigest()
            assert seen.setdefault(key, split) == split


def test_loading_is_reproducible_and_mixed():
    one, other = load("digits", "test"), load("digits", "test")
    assert torch.equal(one.items, other.items)
    assert one.digest == other.digest
    assert len(one.labels[:50].unique()) > 5


def test_limit_draws_a_seeded_subset():
    few = load("digits", "train", limit=30, seed=1)
    assert len(few) == 30
    assert torch.equal(few.items, load("digits", "train", limit=30, seed=1).items)
    assert not torch.equal(few.items, load("digits", "train", limit=30, seed=2).items)
    with pytest.raises(ValueError, match="limit: wanted 1 to 2700"):
        load("digits", "train", limit=2701)


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [("digitz", "train", "name: wanted one of digits, mnist"), ("digits", "dev", "split: wanted one of")],
)
def test_unknown_names_are_named(name, split, message):
    with pytest.raises(ValueError, match=message):
        load(name, split)


@pytest.mark.parametrize(
    ("items", "labels", "message"),
    [
        (torch.full((2, 1, 4, 4), torch.nan), torch.zeros(2, dtype=torch.int64), "got nan in item 0"),
        (torch.full((2, 1, 4, 4), 2.0), torch.zeros(2, dtype=torch.int64), "got 2.0 in item 0"),
        (torch.zeros(0, 1, 4, 4), torch.zeros(0, dtype=torch.int64), "n >= 1"),
        (torch.zeros(2, 4, 4), torch.zeros(2, dtype=torch.int64), "shape"),
        (torch.zeros(2, 1, 4, 4), torch.zeros(3, dtype=torch.int64), "wanted 2 int64 labels"),
    ],
)
def test_a_dataset_checks_what_it_is_made_of(items, labels, message):
    with pytest.raises(DataError, match=message):
        Dataset("made", "train", items, labels)


def idx(array):
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def tiny_mnist(tmp_path, monkeypatch):
    """Four files in MNIST's format, 60,000 + 100 images, with their checksums in place of the published ones."""
    stream = np.random.default_rng(0)
    folder = tmp_path / "shared" / "mnist"
    folder.mkdir(parents=True)
    resources = []
    for part, count in (("train", 60_000), ("t10k", 100)):
        contents = {
            f"{part}-images-idx3-ubyte.gz": idx(np.broadcast_to(stream.integers(0, 256, (count, 1, 1)), (count, 28, 28))),
            f"{part}-labels-idx1-ubyte.gz": idx(stream.integers(0, 10, count)),
        }
        for name, content in contents.items():
            (folder / name).write_bytes(content)
            resources.append((name, hashlib.md5(content).hexdigest()))
    monkeypatch.setattr(MNIST, "resources", resources)
    monkeypatch.setenv("TOPO_DATA", str(folder.parent))
    return folder


def test_mnist_is_read_and_split(tiny_mnist):
    sizes = {split: len(load("mnist", split)) for split in datasets.SPLITS}
    assert sizes == {"train": 50_000, "validation": 5_000, "test": 100, "judge": 5_000}


def test_a_truncated_file_is_named(tiny_mnist):
    file = tiny_mnist / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz is damaged: 1000 bytes"):
        load("mnist", "train")
    assert len(load("mnist", "test")) == 100  # its files are whole


def test_a_missing_file_is_named(tiny_mnist):
    (tiny_mnist / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz is missing"):
        load("mnist", "test")


def test_a_missing_data_set_says_where_it_was_looked_for_and_what_to_do():
    with pytest.raises(DataError, match=r"fetch mnist") as caught:
        load("mnist", "train")
    assert str(paths.raw() / "mnist") in str(caught.value)


@pytest.fixture
def mirror(tiny_mnist, monkeypatch):
    """A server on this machine that holds those files, in place of the published mirrors; TOPO_DATA is unset."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=tiny_mnist)
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(MNIST, "mirrors", [f"http://localhost:{server.server_port}/"])
        monkeypatch.delenv("TOPO_DATA")
        yield tiny_mnist
        server.shutdown()


def test_fetch_gets_whole_verified_files(mirror):
    assert main(["fetch", "mnist"]) == 0
    assert len(load("mnist", "test")) == 100
    damaged = paths.raw() / "mnist" / "t10k-images-idx3-ubyte.gz"
    damaged.write_bytes(b"half")
    assert main(["fetch", "mnist"]) == 0  # what is damaged is fetched again
    assert len(load("mnist", "test")) == 100


def test_a_wrong_download_leaves_nothing(mirror, capsys):
    (mirror / "train-images-idx3-ubyte.gz").write_bytes(b"not what was published")
    assert main(["fetch", "mnist"]) == 1
    assert "could not download train-images" in capsys.readouterr().err
    assert not list((paths.raw() / "mnist").iterdir())


def test_the_list_says_what_is_present(capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out
    assert "digits" in lines
    assert "fetch mnist" in lines
