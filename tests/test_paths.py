from __future__ import annotations

import errno

import platformdirs
import pytest

from topo_utils import paths


def test_environment_variables_move_the_folders(monkeypatch, tmp_path):
    assert paths.runs() == paths.home() / "runs"
    assert paths.places("mnist") == [paths.raw() / "mnist"]
    monkeypatch.setenv("TOPO_DATA", str(tmp_path / "shared"))
    assert paths.places("mnist") == [tmp_path / "shared" / "mnist", paths.raw() / "mnist"]
    monkeypatch.delenv("TOPO_HOME")
    assert paths.home() == paths.REPOSITORY / "data"


def test_a_tilde_is_the_user_s_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TOPO_HOME", "~/results")
    monkeypatch.setenv("TOPO_DATA", "~/sets")
    assert paths.home() == tmp_path / "results"
    assert paths.places("mnist")[0] == tmp_path / "sets" / "mnist"


def test_installed_without_a_checkout_nothing_is_written_among_the_packages(monkeypatch, tmp_path):
    packages = tmp_path / "site-packages"
    packages.mkdir()
    monkeypatch.setattr(paths, "REPOSITORY", packages)
    monkeypatch.delenv("TOPO_HOME")
    assert not paths.is_checkout()
    assert paths.home() == platformdirs.user_data_path("topo_utils")
    (packages / "pyproject.toml").write_text('[project]\nname = "another"\n')  # a project that contains a copy
    assert not paths.is_checkout()
    (packages / "pyproject.toml").write_text('[project]\nname = "topo_utils"\n')
    assert paths.home() == packages / "data"


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    with (
        pytest.raises(OSError, match=r"No space left on device: '.*weights\.safetensors'"),
        paths.atomic(tmp_path / "weights.safetensors"),
    ):
        full()
    assert not list(tmp_path.iterdir())


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    file = tmp_path / "new" / "file.txt"
    with paths.atomic(file) as scratch:
        scratch.write_text("first")
        assert not file.exists()
    with pytest.raises(ZeroDivisionError), paths.atomic(file) as scratch:
        scratch.write_text(f"half {1 / 0}")
    assert file.read_text() == "first"
    assert [child.name for child in file.parent.iterdir()] == ["file.txt"]
