from __future__ import annotations

import numpy as np
import pytest
import torch

from topo_utils import sealed

ARRAYS = {"weight": torch.arange(6.0).view(2, 3), "count": np.array([1, 2], np.int64), "empty": torch.zeros(0, 4)}


@pytest.fixture
def file(tmp_path):
    sealed.write(tmp_path / "it.safetensors", ARRAYS, {"shape": "[2]"})
    return tmp_path / "it.safetensors"


def test_what_was_written_comes_back(file):
    arrays, metadata = sealed.read(file)
    assert metadata == {"shape": "[2]"}
    assert arrays.keys() == ARRAYS.keys()
    assert torch.equal(arrays["weight"], ARRAYS["weight"])
    assert arrays["count"].tolist() == [1, 2]
    assert arrays["empty"].shape == (0, 4)
    assert file.stat().st_mode & 0o444 == 0o444


def test_every_flipped_bit_is_noticed_or_harmless(file):
    """Whatever byte changes: an error, or the very same content."""
    before = file.read_bytes()
    noticed = 0
    for place in range(8, len(before)):
        damaged = bytearray(before)
        damaged[place] ^= 4
        file.write_bytes(damaged)
        try:
            arrays, metadata = sealed.read(file)
        except sealed.DamagedError:
            noticed += 1
        else:
            assert sealed.digest(arrays, metadata) == sealed.digest(ARRAYS, {"shape": "[2]"})
    assert noticed > 0.9 * (len(before) - 8)


@pytest.mark.parametrize("content", [b"", b"short", b"\0" * 4096])
def test_what_is_no_sealed_file_is_named(file, content):
    file.write_bytes(content)
    with pytest.raises(sealed.DamagedError, match=r"it\.safetensors' is damaged"):
        sealed.read(file)


def test_a_file_without_a_seal_a_folder_and_nothing_are_told_apart(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.ones(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(sealed.DamagedError, match="has no seal"):
        sealed.read(tmp_path / "plain.safetensors")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        sealed.read(tmp_path)
    with pytest.raises(FileNotFoundError):
        sealed.read(tmp_path / "nothing")


def test_values_that_are_not_finite_are_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"it\.safetensors: wanted finite values, got NaN or infinity in 'weight'"):
        sealed.write(tmp_path / "it.safetensors", {"weight": torch.tensor([0.0, torch.nan])})
    assert not list(tmp_path.iterdir())


def test_the_digest_covers_names_types_and_shapes():
    bits = torch.tensor([1.0, 2.0])
    others = [{"b": bits}, {"a": bits.view(torch.int32)}, {"a": bits.view(2, 1)}, {"a": -bits}]
    digests = {sealed.digest(arrays) for arrays in ({"a": bits}, *others)}
    assert len(digests) == 5
    assert sealed.digest({"a": bits}, {"x": "1"}) != sealed.digest({"a": bits})
