"""What is cached is not believed: a network that is not what was written is trained again, with a message."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from topo_utils import datasets, paths
from topo_utils.datasets import _files
from topo_utils.models import features
from topo_utils.models.features import initial_autoencoder, judge


def flip_the_scale(file):
    """One bit of F's unit, the rest of the file as it was."""
    with safe_open(file, "pt") as content:
        metadata = content.metadata()
    weights = load_file(file)
    weights["scale"] = (weights["scale"].view(torch.int32) ^ (1 << 21)).view(torch.float32)
    save_file(weights, file, metadata)


def put_a_nan(file):
    weights = load_file(file)
    next(value for value in weights.values() if value.is_floating_point()).view(-1)[0] = torch.nan
    save_file(weights, file)


def zero_a_page(file):
    content = bytearray(file.read_bytes())
    content[-4096:] = bytes(4096)
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [flip_the_scale, put_a_nan, zero_a_page])
def test_a_damaged_f_is_trained_again(damage, digits, capsys):
    before = initial_autoencoder(digits[0], epochs=1)
    (file,) = paths.processed().glob("*-autoencoder-*")
    damage(file)
    after = initial_autoencoder(digits[0], epochs=1)
    assert f"trained again: '{file}'" in capsys.readouterr().err
    assert torch.equal(before.features(digits[1].items), after.features(digits[1].items))
    initial_autoencoder(digits[0], epochs=1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damage", [put_a_nan, zero_a_page])
def test_a_damaged_judge_is_trained_again(damage, capsys):
    data = datasets.load("digits", "judge", limit=100)
    before = judge(data, epochs=1)
    (file,) = paths.processed().glob("*-judge-*")
    damage(file)
    assert torch.equal(judge(data, epochs=1)(data.items), before(data.items))
    assert "trained again" in capsys.readouterr().err


def test_a_folder_in_place_of_a_cache_is_named(digits):
    initial_autoencoder(digits[0], epochs=1)
    (file,) = paths.processed().glob("*-autoencoder-*")
    file.unlink()
    file.mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder: wanted a file"):
        initial_autoencoder(digits[0], epochs=1)


def test_cached_data_of_another_shape_or_type_are_made_again(capsys):
    """Their bytes are the same."""
    arrays = {"items": torch.arange(12.0).view(3, 4).numpy(), "missing": torch.tensor([1.0, torch.nan]).numpy()}
    made = []

    def convert():
        made.append(1)
        return arrays

    _files.cached("it", convert)
    (file,) = paths.processed().glob("it*")
    with safe_open(file, "pt") as content:
        metadata = content.metadata()
    for changed in (lambda x: x.view(4, 3), lambda x: x.view(torch.int32)):
        stored = load_file(file)
        save_file({**stored, "items": changed(stored["items"])}, file, metadata)
        again = _files.cached("it", convert)
        assert again["items"].shape == (3, 4)
        assert again["items"].dtype == arrays["items"].dtype
        assert "is made again" in capsys.readouterr().err
    assert len(made) == 3
    assert _files.cached("it", convert)["missing"][0] == 1
    assert len(made) == 3


@pytest.mark.parametrize(
    ("name", "kind"), [("digits", "plain"), ("torus", "plain"), ("torus", "geodesic"), ("social", "plain")]
)
def test_f_is_kept_and_comes_back(name, kind, tmp_path):
    train = datasets.load(name, "train", limit=60)
    F = initial_autoencoder(train, dimension=5, epochs=1, kind=kind)
    digest = features.save(F, tmp_path / "F.safetensors")
    again = features.restore(tmp_path / "F.safetensors")
    assert digest == features.digest_of(F) == features.digest_of(again)
    assert torch.equal(again.features(train.items), F.features(train.items))
    assert not again.training
    assert not any(weight.requires_grad for weight in again.parameters())


def test_the_judge_of_a_data_set():
    assert features.judge_of("torus") is None
    assert features.judge_of("nci") is None


def test_another_judge_of_a_data_set(monkeypatch):
    monkeypatch.setattr(features, "judge", lambda data, seed: (data.name, data.split, seed))
    assert features.judge_of("digits") == ("digits", "judge", 0)
    assert features.judge_of("digits", 3) == ("digits", "judge", 3)
