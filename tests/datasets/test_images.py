from __future__ import annotations

import errno
import gzip
import hashlib
import io
import pickle
import struct
import tarfile
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

from topo_utils import datasets, paths
from topo_utils.datasets import REGISTRY, SPLITS, DataError, Dataset, load
from topo_utils.datasets.images import Images, augment
from topo_utils.seed import generator
from topo_utils.topology import TopologicalLoss

DIGESTS = {  # run records hold them
    "train": "ab445563c17b6f74",
    "validation": "a43ed9caa1b03edc",
    "test": "d0bfdb63858be9ea",
    "judge": "0aa186636f0afebd",
}


def test_digits_are_whole_and_balanced():
    sizes = {"train": 2700, "validation": 500, "test": 1000, "judge": 800}
    for split, size in sizes.items():
        data = load("digits", split)
        assert data.items.shape == (size, 1, 28, 28)
        assert data.items.dtype == torch.float32
        assert (data.items.min(), data.items.max()) == (0, 1)
        assert data.labels.bincount().tolist() == [size // 10] * 10
        assert data.digest == DIGESTS[split]
    everything = torch.cat([load("digits", split).items for split in sizes])
    assert everything.mean().item() == pytest.approx(0.13, abs=0.005)  # MNIST's is 0.1307


def disjoint(name):
    """Whether no item is in two splits."""
    splits = [{item.numpy().tobytes() for item in load(name, split).items} for split in REGISTRY[name].splits]
    together = set().union(*splits)
    return len(together) == sum(map(len, splits))


def test_splits_have_no_image_in_common():
    assert disjoint("digits")


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
    assert (few.limit, few.seed) == (30, 1)
    assert (few.described()["limit"], few.described()["items"], few.described()["digest"]) == (30, 30, few.digest)


def test_a_limit_is_the_most_that_is_wanted():
    whole = load("digits", "train", limit=2701)
    assert torch.equal(whole.items, load("digits", "train").items)
    assert whole.limit is None
    with pytest.raises(ValueError, match="limit: wanted at least 1, got 0"):
        load("digits", "train", limit=0)
    for wrong in (True, 3.0, "3"):
        with pytest.raises(TypeError, match="limit: wanted a whole number, got"):
            load("digits", "train", limit=wrong)
    with pytest.raises(ValueError, match="limit: wanted 1 to 2700"):
        load("digits", "train").subset(2701)


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
        (torch.zeros(2, 4, 4), torch.zeros(2, dtype=torch.int64), r"wanted images \(n, 1 or 3, height, width\)"),
        (torch.zeros(2, 2, 4, 4), torch.zeros(2, dtype=torch.int64), r"got \(2, 2, 4, 4\)"),
        (torch.zeros(2, 1, 4, 4), torch.zeros(3, dtype=torch.int64), "wanted 2 int64 labels"),
    ],
)
def test_a_dataset_checks_what_it_is_made_of(items, labels, message):
    with pytest.raises(DataError, match=message):
        Dataset("made", "train", Images(), items, labels)


# what is known of an image


def ring(brightness, gap=0.0):
    """A ring with one pixel of the brightness ``gap``; 0 for none."""
    image = torch.zeros(1, 1, 9, 9)
    image[..., 2:7, 2:7] = brightness
    image[..., 3:6, 3:6] = 0
    image[..., 2, 4] = gap or brightness
    return image


def test_loops_count_when_they_last():
    assert Images().betti(torch.cat([ring(1), ring(0.5), ring(0.4)])).tolist() == [[1, 1], [1, 1], [0, 0]]
    assert Images().betti(torch.cat([ring(1, gap=0.6), ring(1, gap=0.3)])).tolist() == [[1, 1], [1, 0]]
    assert Images().betti(ring(1).expand(1, 3, 9, 9)).tolist() == [[1, 1]]


def test_most_digits_have_the_loops_of_their_class():
    data = load("digits", "test", limit=300)
    loops = data.domain.betti(data.items)[:, 1]
    right = {
        digit: (loops[data.labels == digit] == wanted).float().mean() for digit, wanted in [(0, 1), (1, 0), (8, 2), (9, 1)]
    }
    assert all(share > 0.5 for share in right.values())
    assert right[1] > 0.95


def test_the_topological_loss_takes_images_as_they_are():
    data = load("digits", "test", limit=8)
    images = data.items.requires_grad_()
    loss = TopologicalLoss(filtration=data.domain.filtration).fit(data.domain.cloud(images))
    loss(data.domain.cloud(images.detach().flip(0)), data.domain.cloud(images)).backward()
    assert images.grad.abs().sum() > 0
    assert data.domain.cloud(torch.rand(2, 3, 5, 4)).shape == (2, 5, 4)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_drawn_without_ticks(channels):
    _, axes = plt.subplots()
    Images().draw(axes, 1.2 * torch.rand(channels, 5, 4, requires_grad=True))
    assert axes.images[0].get_array().shape[:2] == (5, 4)
    assert not len(axes.get_xticks())
    plt.close()


# augmentation


def test_augmentation_shifts_and_mirrors_each_image_by_itself():
    items = torch.rand(200, 3, 8, 6)
    changed = augment(items, generator(0), crop=2)
    assert torch.equal(changed, augment(items, generator(0), crop=2))
    padded = torch.nn.functional.pad(items, (2, 2, 2, 2))
    windows = {(y, x): padded[..., y : y + 8, x : x + 6] for y in range(5) for x in range(5)}
    found = Counter()
    for k, image in enumerate(changed):
        of = [
            (*at, flip)
            for at, window in windows.items()
            for flip in (0, 1)
            if image.equal(window[k].flip(-1) if flip else window[k])
        ]
        assert len(of) == 1
        found[of[0]] += 1
    assert len(found) > 40  # of the 50 there are


def test_augmentation_can_be_left_out():
    items = torch.rand(5, 1, 8, 8)
    assert torch.equal(augment(items, generator(0), crop=0, flip=False), items)
    with pytest.raises(ValueError, match="crop: wanted a number of pixels"):
        augment(items, generator(0), crop=-1)


# files in MNIST's format


def idx(array):
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes())


@pytest.fixture(params=["mnist", "fashion-mnist"])
def tiny(request, tmp_path, monkeypatch):
    """Four files in MNIST's format, 600 + 100 images, with their checksums in place of the published ones."""
    stream = np.random.default_rng(0)
    folder = tmp_path / "shared" / request.param
    folder.mkdir(parents=True)
    files = {}
    for part, count in (("train", 600), ("t10k", 100)):
        contents = {
            f"{part}-images-idx3-ubyte.gz": idx(stream.integers(0, 256, (count, 28, 28))),
            f"{part}-labels-idx1-ubyte.gz": idx(stream.integers(0, 10, count)),
        }
        for name, content in contents.items():
            (folder / name).write_bytes(content)
            files[name] = hashlib.md5(content).hexdigest()
    source = REGISTRY[request.param]
    monkeypatch.setattr(source, "files", files, raising=False)
    monkeypatch.setattr(source, "sizes", {"train": 500, "validation": 50, "judge": 50}, raising=False)
    monkeypatch.setenv("TOPO_DATA", str(folder.parent))
    return folder


def test_idx_files_are_read_and_split(tiny):
    sizes = {split: len(load(tiny.name, split)) for split in SPLITS}
    assert sizes == {"train": 500, "validation": 50, "test": 100, "judge": 50}
    assert disjoint(tiny.name)
    test = load(tiny.name, "test")
    pixels = np.frombuffer(gzip.decompress((tiny / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((tiny / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    original = {image.tobytes(): label for image, label in zip(pixels.reshape(100, -1), labels, strict=True)}
    assert [original[(255 * item).byte().numpy().tobytes()] for item in test.items] == test.labels.tolist()


@pytest.mark.parametrize(
    ("content", "size"),
    [(lambda whole: whole[:1000], 1000), (lambda whole: b"", 0), (lambda whole: b"a page that says 404", 20)],
)
def test_a_file_that_is_not_the_published_one_is_named(tiny, content, size):
    file = tiny / "train-images-idx3-ubyte.gz"
    file.write_bytes(content(file.read_bytes()))
    with pytest.raises(DataError, match=rf"train-images-idx3-ubyte.gz is damaged: {size} bytes.*Replace it"):
        load(tiny.name, "train")
    assert len(load(tiny.name, "test")) == 100  # its files are whole


def test_an_altered_file_is_named(tiny):
    file = tiny / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="whose MD5 is not"):
        load(tiny.name, "test")


def test_a_missing_file_is_named(tiny):
    (tiny / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz is missing"):
        load(tiny.name, "test")


def test_a_folder_that_is_named_goes_first(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("TOPO_DATA", str(tmp_path / "elsewhere"))
    assert not REGISTRY[tiny.name].present()
    assert REGISTRY[tiny.name].present(tiny.parent)
    assert len(load(tiny.name, "test", root=tiny.parent)) == 100


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar10-jpeg75", "cifar10-9k"])
def test_a_missing_data_set_says_where_it_was_looked_for_and_what_to_do(name):
    assert not REGISTRY[name].present()
    with pytest.raises(
        DataError, match=f"fetch {name}`" if hasattr(REGISTRY[name], "fetch") else "has no download"
    ) as caught:
        load(name, "train")
    assert str(paths.raw() / REGISTRY[name].folder) in str(caught.value)
    assert all(file in str(caught.value) for file in REGISTRY[name].files)


# CIFAR-10: the archive


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 and its NumPy wrote: every string as bytes, and numpy.core."""

    def save_bytes(self, text):
        self.write(b"T" + struct.pack("<i", len(text)) + text)

    dispatch = {**pickle._Pickler.dispatch, bytes: save_bytes, str: lambda self, text: self.save_bytes(text.encode())}

    def save_global(self, obj, name=None):
        module = obj.__module__.replace("numpy._core", "numpy.core")
        self.write(f"c{module}\n{name or obj.__name__}\n".encode())

    dispatch[type] = dispatch[type(len)] = save_global


def python2_pickle(value):
    content = io.BytesIO()
    Python2Pickler(content, protocol=2).dump(value)
    return content.getvalue()


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """CIFAR-10's archive with ten images a batch; returns images (60, 3, 32, 32) and labels by part, and the file."""
    stream = np.random.default_rng(0)
    file = tmp_path / "shared" / "cifar10" / CIFAR10.filename
    file.parent.mkdir(parents=True)
    images, labels = stream.integers(0, 256, (60, 3, 32, 32), dtype=np.uint8), stream.integers(0, 10, 60)
    with tarfile.open(file, "w:gz") as content:
        for k, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
            part = slice(10 * k, 10 * k + 10)
            batch = {"data": images[part].reshape(10, -1), "labels": labels[part].tolist(), "batch_label": name}
            add(content, f"{CIFAR10.base_folder}/{name}", python2_pickle(batch))
    source = REGISTRY["cifar10"]
    monkeypatch.setattr(source, "files", {file.name: hashlib.md5(file.read_bytes()).hexdigest()}, raising=False)
    monkeypatch.setattr(source, "sizes", {"train": 30, "validation": 10, "judge": 10}, raising=False)
    monkeypatch.setenv("TOPO_DATA", str(file.parents[1]))
    return images, labels, file


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def by_pixels(items):
    return [(255 * item).round().byte().numpy().tobytes() for item in items]


def test_the_archive_is_read_and_split(archive):
    images, labels, _ = archive
    label_of = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    test = load("cifar10", "test")
    assert sorted(by_pixels(test.items)) == sorted(image.tobytes() for image in images[50:])
    for split in SPLITS:
        data = load("cifar10", split)
        assert data.shape == (3, 32, 32)
        assert [label_of[key] for key in by_pixels(data.items)] == data.labels.tolist()
    assert disjoint("cifar10")


def test_the_archive_is_unpacked_once(archive, monkeypatch):
    first = load("cifar10", "train")
    monkeypatch.setattr(tarfile, "open", None)
    assert torch.equal(load("cifar10", "train").items, first.items)


@pytest.mark.parametrize(
    "damage", [lambda content: content[:5000], lambda content: content[:-1] + b"\x99", lambda content: b""]
)
def test_a_damaged_cache_is_named_and_made_again(archive, damage, capsys):
    first = load("cifar10", "train")
    (cache,) = paths.processed().glob("cifar10-train-*")
    cache.write_bytes(damage(cache.read_bytes()))
    assert torch.equal(load("cifar10", "train").items, first.items)
    printed = capsys.readouterr().err
    assert f"'{cache}' is damaged" in printed
    assert "the cache is made again" in printed
    assert torch.equal(load("cifar10", "train").items, first.items)
    assert not capsys.readouterr().err


def test_a_full_disk_leaves_no_cache(archive, monkeypatch):
    def full(file, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(file))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left on device"):
            load("cifar10", "train")
    assert not list(paths.processed().iterdir())
    assert len(load("cifar10", "train")) == 30


def test_a_pickle_that_runs_something_is_refused(archive, monkeypatch):
    file = archive[2]
    with tarfile.open(file, "w:gz") as content:
        add(content, f"{CIFAR10.base_folder}/test_batch", pickle.dumps({b"data": print}))
    monkeypatch.setattr(
        REGISTRY["cifar10"], "files", {file.name: hashlib.md5(file.read_bytes()).hexdigest()}, raising=False
    )
    with pytest.raises(pickle.UnpicklingError, match=r"wanted only arrays .* got builtins.print"):
        load("cifar10", "test")


# CIFAR-10 from a folder


def test_jpegs_are_decoded_in_their_order(tmp_path, monkeypatch):
    source, folder = REGISTRY["cifar10-jpeg75"], tmp_path / "cifar10-jpeg75"
    folder.mkdir()
    files, label_of, stream = {}, {}, np.random.default_rng(0)
    for part, count in (("train", 50), ("test", 20)):
        jpegs, labels = [], stream.integers(0, 10, count)
        for label in labels:
            content = io.BytesIO()
            Image.fromarray(stream.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(content, "jpeg", quality=75)
            jpegs.append(np.frombuffer(content.getvalue(), np.uint8))
            label_of[np.moveaxis(np.asarray(Image.open(content)), -1, 0).tobytes()] = label
        file = folder / f"cifar10_{part}_jpeg_q75.npz"
        offsets = np.concatenate([[0], np.cumsum([len(jpeg) for jpeg in jpegs])])
        np.savez(file, jpeg=np.concatenate(jpegs), offsets=offsets, labels=labels.astype(np.uint8))
        files[file.name] = hashlib.md5(file.read_bytes()).hexdigest()
    monkeypatch.setattr(source, "files", files, raising=False)
    monkeypatch.setattr(source, "sizes", {"train": 30, "validation": 10, "judge": 10}, raising=False)
    monkeypatch.setenv("TOPO_DATA", str(tmp_path))
    for split in SPLITS:
        data = load("cifar10-jpeg75", split)
        assert [label_of[key] for key in by_pixels(data.items)] == data.labels.tolist()
    assert disjoint("cifar10-jpeg75")


# the real data


@pytest.mark.parametrize(("name", "mean"), [("mnist", 0.1307), ("fashion-mnist", 0.2860)])
def test_the_published_numbers_hold(shared_data, name, mean):
    splits = {split: load(name, split) for split in SPLITS}
    assert {split: len(data) for split, data in splits.items()} == {
        "train": 50_000, "validation": 5_000, "test": 10_000, "judge": 5_000
    }  # fmt: skip
    training = [data for split, data in splits.items() if split != "test"]
    total = sum(data.items.double().sum() for data in training) / (60_000 * 784)
    assert total.item() == pytest.approx(mean, abs=5e-5)
    classes = sum(data.labels.bincount() for data in training).tolist()
    mnist = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert classes == (mnist if name == "mnist" else [6000] * 10)
    keys = [item.numpy().tobytes() for data in splits.values() for item in data.items]
    assert len(set(keys)) == 70_000  # no two images are equal


def test_the_lossless_images_are_those_of_the_jpegs(shared_data):
    lossless, jpegs = load("cifar10-9k", "test"), load("cifar10-jpeg75", "test")
    assert (len(lossless), len(jpegs)) == (1_017, 10_000)
    assert jpegs.labels.bincount().tolist() == [1000] * 10
    assert {split: len(load("cifar10-9k", split)) for split in ("train", "validation", "judge")} == {
        "train": 6_068, "validation": 1_000, "judge": 1_000
    }  # fmt: skip
    small = [torch.nn.functional.avg_pool2d(data.items, 4).flatten(1) for data in (lossless, jpegs)]
    nearest = torch.cdist(*small, compute_mode="use_mm_for_euclid_dist").argmin(1)
    assert (jpegs.labels[nearest] == lossless.labels).double().mean() > 0.995
    assert disjoint("cifar10-9k")
    assert datasets.REGISTRY["cifar10-jpeg75"].present()
