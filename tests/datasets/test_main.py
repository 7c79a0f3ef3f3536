"""The list of data sets, and downloads: from a server on this machine, which may fail as servers do."""

from __future__ import annotations

import errno
import functools
import gzip
import hashlib
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import utils

from topo_utils import paths
from topo_utils.datasets import REGISTRY, load
from topo_utils.datasets.__main__ import main


def test_the_list_says_what_there_is_and_how_to_get_it(capsys):
    assert main([]) == 0
    entries = {entry.split()[0]: entry for entry in capsys.readouterr().out.strip().split("\n\n")}
    assert list(entries) == list(REGISTRY)
    for name, entry in entries.items():
        assert REGISTRY[name].summary in entry
        assert REGISTRY[name].licence in entry
        assert ("missing" in entry) != REGISTRY[name].present()
    assert entries["digits"].endswith("present")
    assert entries["mnist"].endswith("missing: python -m topo_utils.datasets fetch mnist")
    assert "there is no download; name a folder that holds it in TOPO_DATA" in entries["cifar10-9k"]


@pytest.mark.parametrize(
    ("name", "code", "message"), [("digits", 0, "digits is present"), ("cifar10-9k", 1, "no download")]
)
def test_what_has_no_download_is_not_fetched(name, code, message, capsys):
    assert main(["fetch", name]) == code
    assert message in capsys.readouterr().out


def test_an_unknown_name_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["fetch", "mnits"])
    assert "invalid choice: 'mnits' (choose from" in capsys.readouterr().err


class Server(SimpleHTTPRequestHandler):
    """Breaks off in the middle of a file as often as ``cuts`` says."""

    cuts = 0

    def copyfile(self, source, outputfile):
        if Server.cuts:
            Server.cuts -= 1
            outputfile.write(source.read(20))
        else:
            super().copyfile(source, outputfile)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The folder that a server gives as MNIST: two images for each file, with checksums in place of the published ones."""
    files = {}
    for name in REGISTRY["mnist"].files:
        shape = (2, 28, 28) if "images" in name else (2,)
        content = gzip.compress(
            struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape) + bytes(range(2)) * (np.prod(shape) // 2)
        )
        (tmp_path / "server").mkdir(exist_ok=True)
        (tmp_path / "server" / name).write_bytes(content)
        files[name] = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(Server, "cuts", 0)
    handler = functools.partial(Server, directory=tmp_path / "server")
    with ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(REGISTRY["mnist"], "files", files, raising=False)
        monkeypatch.setattr(REGISTRY["mnist"], "addresses", (f"http://localhost:{server.server_port}/",), raising=False)
        yield tmp_path / "server"
        server.shutdown()


def fetched():
    return sorted(file.name for file in (paths.raw() / "mnist").iterdir())


def test_a_fetched_set_is_whole(server, capsys):
    assert main(["fetch", "mnist"]) == 0
    assert f"mnist is in {paths.raw() / 'mnist'}" in capsys.readouterr().out
    assert fetched() == sorted(REGISTRY["mnist"].files)
    assert len(load("mnist", "test")) == 2


def test_only_what_is_missing_or_damaged_is_fetched(server, monkeypatch):
    assert main(["fetch", "mnist"]) == 0
    damaged, *others = (paths.raw() / "mnist" / file for file in REGISTRY["mnist"].files)
    before = [file.stat().st_mtime_ns for file in others]
    damaged.write_bytes(b"half")
    assert main(["fetch", "mnist"]) == 0
    assert damaged.read_bytes() == (server / damaged.name).read_bytes()
    assert [file.stat().st_mtime_ns for file in others] == before


def test_a_wrong_file_leaves_nothing(server, capsys):
    (server / "train-images-idx3-ubyte.gz").write_bytes(b"not what was published")
    assert main(["fetch", "mnist"]) == 1
    assert "could not download train-images-idx3-ubyte.gz" in capsys.readouterr().err
    assert not fetched()


def test_a_download_that_broke_off_starts_again(server, capsys):
    Server.cuts = 2  # torchvision asks twice: where an address leads to, and for the file
    assert main(["fetch", "mnist"]) == 1
    assert "error: could not download" in capsys.readouterr().err
    assert not fetched()
    assert main(["fetch", "mnist"]) == 0
    assert len(load("mnist", "test")) == 2


def test_the_next_address_is_tried(server, monkeypatch):
    (good,) = REGISTRY["mnist"].addresses
    monkeypatch.setattr(REGISTRY["mnist"], "addresses", (f"{good}nowhere/", good))
    assert main(["fetch", "mnist"]) == 0
    assert fetched() == sorted(REGISTRY["mnist"].files)


def test_a_full_disk_is_named_and_leaves_nothing(server, monkeypatch, capsys):
    def full(url, filename, **_):
        Path(filename).write_bytes(b"as much as there was room for")
        raise OSError(errno.ENOSPC, "No space left on device", filename)

    with monkeypatch.context() as patch:
        patch.setattr(utils, "_urlretrieve", full)
        assert main(["fetch", "mnist"]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert not fetched()
    assert main(["fetch", "mnist"]) == 0


def test_fetches_at_the_same_time_do_not_disturb_each_other(server):
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(main, [["fetch", "mnist"]] * 8))
    assert codes == [0] * 8
    assert fetched() == sorted(REGISTRY["mnist"].files)
    assert all((paths.raw() / "mnist" / file).read_bytes() == (server / file).read_bytes() for file in fetched())
