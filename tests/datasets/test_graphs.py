from __future__ import annotations

import errno
import functools
import gzip
import io
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, combinations

import gudhi
import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from matplotlib.collections import PathCollection

from topo_utils import paths
from topo_utils.datasets import REGISTRY, SPLITS, DataError, Dataset, load
from topo_utils.datasets.__main__ import main
from topo_utils.datasets._isomorphism import IsomorphismClasses, canonical_order
from topo_utils.datasets._published import content_sha256
from topo_utils.datasets.graphs import Graphs

DOMAIN = Graphs()


def item(graph):
    """A graph as an item; its nodes stay in their order."""
    adjacency = torch.zeros(32, 32)
    adjacency[: len(graph), : len(graph)] = torch.from_numpy(nx.to_numpy_array(graph, dtype=np.float32))
    return adjacency


def graph_of(adjacency):
    """The graph of an item, absent nodes left out."""
    graph = nx.from_numpy_array(np.asarray(adjacency))
    graph.remove_nodes_from(list(nx.isolates(graph)))
    return graph


def betti_by_gudhi(graph):
    """Betti numbers 0 and 1 of the clique complex."""
    tree = gudhi.SimplexTree()
    for node in graph:
        tree.insert([node])
    for edge in graph.edges:
        tree.insert(list(edge))
    tree.expansion(2)
    tree.compute_persistence(persistence_dim_max=True)
    return [*tree.betti_numbers(), 0, 0][:2]


def relabelled(adjacency, seed):
    order = np.random.default_rng(seed).permutation(len(adjacency))
    return adjacency[np.ix_(order, order)]


def canonical(adjacency):
    order = canonical_order(adjacency)
    return adjacency[np.ix_(order, order)]


random_graphs = st.builds(nx.gnp_random_graph, st.integers(2, 32), st.floats(0.02, 0.6), st.integers(0, 10**6))


# The domain


@settings(deadline=None, max_examples=60)
@given(random_graphs)
def test_betti_numbers_agree_with_networkx_and_gudhi(graph):
    (betti,) = DOMAIN.betti(item(graph)[None]).tolist()
    graph = graph_of(item(graph))
    assert betti[0] == nx.number_connected_components(graph)
    assert betti == betti_by_gudhi(graph)


@pytest.mark.parametrize(
    ("graph", "betti"),
    [
        (nx.empty_graph(5), [0, 0]),
        (nx.path_graph(2), [1, 0]),
        (nx.cycle_graph(3), [1, 0]),  # filled
        (nx.cycle_graph(4), [1, 1]),
        (nx.disjoint_union(nx.cycle_graph(5), nx.cycle_graph(6)), [2, 2]),
        (nx.complete_bipartite_graph(3, 3), [1, 4]),
        (nx.octahedral_graph(), [1, 0]),  # its clique complex is a sphere
        (nx.complete_graph(32), [1, 0]),
        (nx.wheel_graph(32), [1, 0]),  # a cone
        (nx.cycle_graph(32), [1, 1]),
    ],
)
def test_betti_numbers_of_known_graphs(graph, betti):
    assert DOMAIN.betti(item(graph)[None]).tolist() == [betti]


def test_a_loop_is_a_bar_from_1_to_2():
    (loops,) = DOMAIN.diagrams(item(nx.cycle_graph(7))[None])[1].points
    assert loops.tolist() == [[1, 2]]


def test_probabilities_are_weights_with_gradients_and_are_rounded_for_betti_numbers():
    probabilities = (0.2 + 0.5 * item(nx.cycle_graph(6))[None]).requires_grad_()
    weights = DOMAIN.cloud(probabilities)
    assert weights.detach()[0, 0, 1].item() == pytest.approx(1.3)
    assert weights.detach()[0, 0, 2].item() == pytest.approx(1.8)
    assert (weights.diagonal(dim1=1, dim2=2) == 0).all()
    weights.sum().backward()
    assert torch.equal(probabilities.grad[0], torch.eye(32) - 1)
    assert DOMAIN.betti(probabilities).tolist() == [[1, 1]]
    loops = DOMAIN.diagrams(probabilities)[1]
    assert loops.points[loops.mask].tolist() == pytest.approx(torch.tensor([[1.3, 1.8]]))


def broken(change):
    items = torch.stack([item(nx.cycle_graph(4)), item(nx.path_graph(4))])
    change(items)
    return items


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (torch.zeros(2, 31, 31), r"wanted adjacency matrices \(32, 32\), got items \(31, 31\)"),
        (broken(lambda items: items[1, 0, 1:2].fill_(0.5)), "wanted 0 and 1 alone, got something else in item 1"),
        (broken(lambda items: items[1, 0, 3:4].fill_(1)), "wanted symmetric matrices, got something else in item 1"),
        (broken(lambda items: items[1, 2, 2:3].fill_(1)), "wanted zeros on the diagonal"),
        (broken(lambda items: items.copy_(items.roll((1, 1), (1, 2)))), "wanted absent nodes .* in item 0"),
    ],
)
def test_items_are_checked(items, message):
    with pytest.raises(DataError, match=message):
        Dataset("made", "train", DOMAIN, items, torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize(
    "drawn",
    [
        item(nx.karate_club_graph().subgraph(range(32))),
        item(nx.disjoint_union(nx.path_graph(3), nx.cycle_graph(5))),
        torch.zeros(32, 32),
        torch.rand(32, 32, requires_grad=True),
    ],
    ids=["connected", "in two parts", "empty", "probabilities"],
)
def test_present_nodes_are_drawn_the_same_each_time(drawn):
    present = len(graph_of(((drawn + drawn.mT) / 2 > 0.5).fill_diagonal_(False)))
    places = []
    for _ in range(2):
        figure, axes = plt.subplots()
        DOMAIN.draw(axes, drawn)
        figure.canvas.draw()
        places.append([c.get_offsets().data for c in axes.collections if isinstance(c, PathCollection)])
        assert not axes.axison
        plt.close(figure)
    assert sum(map(len, places[0])) == present
    assert all(np.array_equal(*pair) for pair in zip(*places, strict=True))


# The order of the nodes, and isomorphism


@settings(deadline=None, max_examples=60)
@given(
    st.builds(nx.gnp_random_graph, st.integers(10, 32), st.floats(0.25, 0.6), st.integers(0, 10**6)), st.integers(0, 10**6)
)
def test_the_canonical_matrix_does_not_depend_on_the_given_order(graph, seed):
    adjacency = nx.to_numpy_array(graph)
    walks = np.stack([np.linalg.matrix_power(adjacency, k).sum(0) for k in range(6)])
    assume(len(np.unique(walks, axis=1).T) == len(graph))  # no two nodes look the same
    assert np.array_equal(canonical(adjacency), canonical(relabelled(adjacency, seed)))


@pytest.mark.parametrize("make", [nx.star_graph, nx.cycle_graph, nx.complete_graph, nx.path_graph, nx.ladder_graph])
def test_nodes_that_a_symmetry_exchanges_do_not_matter(make):
    adjacency = nx.to_numpy_array(make(9))
    matrices = {canonical(relabelled(adjacency, seed)).tobytes() for seed in range(20)}
    assert len(matrices) == 1


def test_a_regular_graph_without_symmetry_has_several_canonical_matrices_but_one_class():
    adjacency = nx.to_numpy_array(nx.frucht_graph())
    matrices = [canonical(relabelled(adjacency, seed)) for seed in range(30)]
    assert len({matrix.tobytes() for matrix in matrices}) > 1  # the documented limit
    classes = IsomorphismClasses()
    assert {classes.number(matrix) for matrix in matrices} == {0}


def test_graphs_that_the_refinement_cannot_tell_apart_are_different_classes():
    classes = IsomorphismClasses()
    graphs = nx.cycle_graph(6), nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3)), nx.cycle_graph(6)
    assert [classes.number(nx.to_numpy_array(graph)) for graph in graphs] == [0, 1, 0]
    assert len(classes) == 2


@settings(deadline=None, max_examples=40)
@given(random_graphs)
def test_the_order_is_breadth_first_from_a_node_of_highest_degree(graph):
    adjacency = canonical(nx.to_numpy_array(graph))
    degrees = adjacency.sum(0)
    assert degrees[0] == degrees.max()
    earlier = np.tril(adjacency) > 0
    parents = np.where(earlier.any(1), earlier.argmax(1), np.arange(len(adjacency)))
    assert (np.diff(parents) >= 0).all()
    assert (parents == np.arange(len(parents))).sum() == nx.number_connected_components(graph)


# The embedded data set


@pytest.fixture(scope="module")
def social(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOPO_HOME", str(tmp_path_factory.mktemp("social")))
        return {split: load("social", split) for split in REGISTRY["social"].splits}


def classes_of(datasets):
    """For each split the isomorphism classes of its graphs."""
    classes = IsomorphismClasses()

    def number(matrix, nodes):
        return classes.number(matrix[:nodes, :nodes].numpy())

    return {split: list(map(number, data.items, data.properties["nodes"])) for split, data in datasets.items()}


def assert_no_class_is_in_two_splits(datasets):
    for one, other in combinations(map(set, classes_of(datasets).values()), 2):
        assert not one & other


def test_social_is_whole(social):
    assert {split: len(data) for split, data in social.items()} == {"train": 1000, "validation": 100, "test": 200}
    assert {split: data.labels.unique().tolist() for split, data in social.items()} == {
        "train": [0, 1],
        "validation": [2],
        "test": [3],
    }
    nodes = social["train"].properties["nodes"]
    assert nodes.dtype == torch.int64
    assert (nodes.min(), nodes.max()) == (8, 32)
    assert nodes.double().mean().item() == pytest.approx(20, abs=0.5)  # drawn uniformly from 8 to 32


def test_sampled_graphs_are_connected_induced_and_keep_their_triangles(social):
    train = social["train"]
    assert (train.domain.betti(train.items)[:, 0] == 1).all()
    clustering = [nx.average_clustering(graph_of(matrix)) for matrix in train.items[train.labels == 0][:100]]
    assert np.mean(clustering) == pytest.approx(nx.average_clustering(nx.les_miserables_graph()), abs=0.15)
    assert all(nx.is_bipartite(graph_of(matrix)) for matrix in train.items[train.labels == 1][:50])


def test_no_graph_of_social_is_there_twice(social):
    numbers = classes_of(social)
    assert all(len(set(each)) == len(each) for each in numbers.values())
    assert_no_class_is_in_two_splits(social)


def test_items_are_in_canonical_order(social):
    for matrix, nodes in zip(social["test"].items, social["test"].properties["nodes"], strict=True):
        adjacency = matrix[:nodes, :nodes].numpy()
        assert np.array_equal(canonical(relabelled(adjacency, 0)), adjacency)


def test_loading_gives_the_same_again_and_a_damaged_cache_is_made_again(social, capsys):
    assert load("social", "validation").digest == social["validation"].digest
    (file,) = paths.processed().iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    assert load("social", "validation").digest == social["validation"].digest
    assert str(file) in capsys.readouterr().err
    assert load("social", "validation").digest == social["validation"].digest
    assert not capsys.readouterr().err


def test_a_network_that_is_too_small_for_a_split_is_an_error(monkeypatch):
    monkeypatch.setattr(REGISTRY["social"], "sizes", {"validation": 100_000}, raising=False)
    monkeypatch.setattr(REGISTRY["social"], "makers", [lambda: nx.complete_graph(9)], raising=False)
    monkeypatch.setattr(REGISTRY["social"], "parts", {"validation": (0,)}, raising=False)
    with pytest.raises(ValueError, match="wanted 100,000 different graphs, got 2 from a network of 9 nodes"):
        load("social", "validation")


# Data sets of publishers, on small files in their formats


def ego_files():
    """Ten ego networks, of 14 friends in a ring of triangles and one without other friends, and what is in them."""
    egos = sorted(sum(REGISTRY["ego-facebook"].egos.values(), ()))
    arrays = {"ego_ids": egos}
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:

        def add(name, text):
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))

        add("../outside", "nothing is unpacked")
        for n, ego in enumerate(egos):
            ring = nx.gnp_random_graph(14, 0.35, seed=n)
            nx.add_cycle(ring, range(14))
            edges = sorted((5000 + 14 * n + min(e), 5000 + 14 * n + max(e)) for e in ring.edges)
            friends = [*sorted({v for e in edges for v in e}), 9000 + n]
            if ego == 3980:  # shares a friend with ego 107, which is in train
                edges.append((5014, 5015 + 14 * n))
                friends.insert(0, 5014)
            add(f"facebook/{ego}.edges", "".join(f"{a} {b}\n{b} {a}\n" for a, b in edges[::-1]))
            add(f"facebook/{ego}.feat", "".join(f"{friend} 0 1 0\n" for friend in friends[::-1]))
            arrays |= {f"ego{ego}_edges": sorted(edges), f"ego{ego}_nodes": sorted(friends)}
    return arrays, {"facebook.tar.gz": content.getvalue()}


def email_files():
    """Senders and receivers in 42 departments of 3, one writing to himself, and what is in the files."""
    graph = nx.gnp_random_graph(126, 0.2, seed=1, directed=True)
    edges = sorted([*graph.edges, (5, 5)])
    department = [n % 42 for n in range(126)]
    texts = {
        "email-Eu-core.txt.gz": "".join(f"{a} {b}\n" for a, b in edges[::-1]),
        "email-Eu-core-department-labels.txt.gz": "".join(f"{n} {department[n]}\n" for n in reversed(range(126))),
    }
    files = {name: gzip.compress(text.encode()) for name, text in texts.items()}
    return {"edges_directed": edges, "department": department}, files


def imdb_files():
    """Sixty graphs, among them copies in another order of the nodes and one of 33 nodes, and what is in the files."""
    graphs = [nx.wheel_graph(n) for n in range(8, 34)] + [nx.gnp_random_graph(9, 0.6, seed=n) for n in range(8)]
    graphs += [nx.relabel_nodes(nx.wheel_graph(n), {0: 1, 1: 0}) for n in range(8, 34)]
    nodes, pairs, first = [graph.number_of_nodes() for graph in graphs], [], 1
    edges = [sorted(tuple(sorted(e)) for e in graph.edges) for graph in graphs]
    for graph, count in zip(edges, nodes, strict=True):
        both = sorted([*graph, *((b, a) for a, b in graph)])
        pairs += [f"{first + u}, {first + v}\n" for a, b in both for u, v in ((a, b), (b, a))]  # twice, as published
        first += count
    labels = [n % 2 for n in range(len(graphs))]
    texts = {
        "A": "".join(pairs),
        "graph_indicator": "".join(f"{n + 1}\n" * count for n, count in enumerate(nodes)),
        "graph_labels": "".join(f"{label}\n" for label in labels),
    }
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(f"IMDB-BINARY/IMDB-BINARY_{name}.txt", text)
    arrays = {"n_nodes": nodes, "n_edges": [len(e) for e in edges], "edges": list(chain(*edges)), "y": labels}
    return arrays, {"IMDB-BINARY.zip": content.getvalue()}


MADE = {"ego-facebook": ego_files(), "email-eu-core": email_files(), "imdb-binary": imdb_files()}
SIZES = {
    "ego-facebook": {"train": 60, "validation": 20, "test": 30},
    "email-eu-core": {"train": 60, "validation": 20, "test": 20},
    "imdb-binary": {"train": 30, "validation": 9, "test": 9, "judge": 10},
}


@pytest.fixture(params=MADE)
def published(request, tmp_path, monkeypatch):
    """A source whose publisher is a server on this machine that has small files; with ``.folder``, where they lie."""
    source = REGISTRY[request.param]
    arrays, files = MADE[request.param]
    folder = tmp_path / "publisher"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://localhost:{server.server_port}/"
        monkeypatch.setattr(type(source), "urls", tuple(address + url.rsplit("/", 1)[-1] for url in source.urls))
        monkeypatch.setattr(type(source), "sha256", content_sha256(arrays))
        monkeypatch.setattr(type(source), "sizes", SIZES[request.param])
        source.folder = folder
        yield source
        del source.folder
        server.shutdown()


def fetched(source):
    """Names of the files that are in the folder of downloads."""
    folder = paths.raw() / "graphs"
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def test_fetch_keeps_the_content_as_one_file_and_it_loads(published):
    assert not published.present()
    assert main(["fetch", published.name]) == 0
    assert fetched(published) == [published.file]
    assert not (paths.raw().parent / "outside").exists()
    assert published.present()
    datasets = {split: load(published.name, split) for split in published.splits}
    for split, size in SIZES[published.name].items():  # isomorphic graphs stay together, so some sizes are not exact
        assert len(datasets[split]) == pytest.approx(size, abs=1 if published.name == "imdb-binary" else 0)
    assert_no_class_is_in_two_splits(datasets)


def test_a_second_fetch_downloads_only_what_is_missing_or_damaged(published):
    file = published.fetch() / published.file
    modified = file.stat().st_mtime_ns
    published.fetch()
    assert file.stat().st_mtime_ns == modified
    file.write_bytes(file.read_bytes()[:-100])
    published.fetch()
    assert published.arrays()


def test_fetches_at_the_same_time_do_not_disturb_each_other(published):
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: published.fetch(), range(3)))
    assert fetched(published) == [published.file]
    assert published.arrays()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda _: b"",
        lambda _: b"<html>We have moved</html>",
    ],
    ids=["truncated", "empty", "a page"],
)
def test_a_damaged_download_leaves_nothing(published, capsys, damage):
    file = published.folder / published.urls[0].rsplit("/", 1)[-1]
    file.write_bytes(damage(file.read_bytes()))
    assert main(["fetch", published.name]) == 1
    message = capsys.readouterr().err
    assert published.urls[0] in message
    assert f"cannot be read as the data set '{published.name}'" in message
    assert fetched(published) == []


def test_other_content_than_published_is_refused(published, capsys, monkeypatch):
    monkeypatch.setattr(type(published), "sha256", "0" * 64)
    assert main(["fetch", published.name]) == 1
    assert "SHA-256 of whose content is 0000" in capsys.readouterr().err
    assert fetched(published) == []


def test_a_full_disk_leaves_nothing(published, capsys, monkeypatch):
    def full(file, **_):
        file.write_bytes(b"the first blocks")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    assert main(["fetch", published.name]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert fetched(published) == []


def altered(file):
    with np.load(file) as stored:
        arrays = dict(stored)
    name = max(arrays, key=lambda name: arrays[name].size)
    arrays[name].flat[-1] += 1
    np.savez_compressed(file, **arrays)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-50]), "cannot be read"),
        (lambda file: file.write_bytes(b""), "cannot be read"),
        (lambda file: file.write_bytes(b"0 1\n1 2\n"), "cannot be read"),
        (lambda file: np.savez(file, something=np.arange(3)), "cannot be read .*KeyError"),
        (lambda file: np.savez(file, **dict.fromkeys(["edges", "n_edges", "ego_ids"], np.array([{}]))), "cannot be read"),
        (altered, "SHA-256"),
    ],
    ids=["truncated", "empty", "text", "other arrays", "pickled", "altered"],
)
def test_a_damaged_file_is_named(published, damage, message):
    file = published.fetch() / published.file
    damage(file)
    with pytest.raises(DataError, match=message) as caught:
        load(published.name, "train")
    assert str(file) in str(caught.value)
    assert f"fetch {published.name}" in str(caught.value)


@pytest.mark.parametrize("name", MADE)
def test_a_missing_data_set_says_where_it_was_looked_for_and_what_to_do(name, tmp_path):
    with pytest.raises(DataError, match=f"fetch {name}") as caught:
        load(name, "train", root=tmp_path)
    assert str(tmp_path / "graphs") in str(caught.value)
    assert str(paths.raw() / "graphs") in str(caught.value)
    assert f"graphs/{REGISTRY[name].file}" in str(caught.value)


@pytest.mark.parametrize("name", ["ego-facebook", "email-eu-core"])
def test_networks_of_different_splits_share_nobody(name):
    source = REGISTRY[name]
    arrays = source.tidy({key: np.array(values) for key, values in MADE[name][0].items()})
    people = [{node for _, node in network} for network in source.networks(arrays).values()]
    for one, other in combinations(people, 2):
        assert one
        assert not one & other


def test_the_ego_is_in_no_network():
    source = REGISTRY["ego-facebook"]
    networks = source.networks({key: np.array(values) for key, values in MADE["ego-facebook"][0].items()})
    assert not {node for network in networks.values() for _, node in network} & set(sum(source.egos.values(), ()))


@pytest.mark.parametrize("name", ["social", *MADE])
def test_the_readme_of_the_data_gives_sizes_and_checksum(name):
    source, readme = REGISTRY[name], (paths.REPOSITORY / "data" / "README.md").read_text()
    sizes = [f"{source.sizes[split]:,}" if split in source.splits else "–" for split in SPLITS]
    assert f"| `{name}` | {' | '.join(sizes)} |" in readme
    assert f"| `{name}` | {sum(source.sizes.values()):,} graphs |" in readme
    assert getattr(source, "sha256", "") in readme


# The real data


@pytest.mark.parametrize("name", MADE)
def test_the_real_content_has_the_known_sha256(name, shared_data):
    assert content_sha256(REGISTRY[name].arrays()) == REGISTRY[name].sha256


@pytest.mark.parametrize("name", MADE)
def test_real_splits_are_whole_connected_and_disjoint(name, shared_data):
    source = REGISTRY[name]
    datasets = {split: load(name, split) for split in source.splits}
    assert {split: len(data) for split, data in datasets.items()} == source.sizes
    assert all((DOMAIN.betti(data.items)[:, 0] == 1).all() for data in datasets.values())
    assert_no_class_is_in_two_splits(datasets)


def test_ego_facebook_has_the_known_numbers(shared_data):
    source = REGISTRY["ego-facebook"]
    arrays = source.arrays()
    edges = set()
    for ego in arrays["ego_ids"].tolist():  # the ego is a friend of all
        edges |= set(map(tuple, arrays[f"ego{ego}_edges"].tolist()))
        edges |= {tuple(sorted((ego, friend))) for friend in arrays[f"ego{ego}_nodes"].tolist()}
    assert len({person for edge in edges for person in edge}) == 4_039
    assert len(edges) == 88_234
    people = [{node for _, node in network} for network in source.networks(arrays).values()]
    assert not any(one & other for one, other in combinations(people, 2))


def test_email_eu_core_has_the_known_numbers(shared_data):
    source = REGISTRY["email-eu-core"]
    arrays = source.arrays()
    assert arrays["department"].shape == (1_005,)
    assert len(np.unique(arrays["department"])) == 42
    assert arrays["edges_directed"].shape == (25_571, 2)
    departments = [{department for department, _ in network} for network in source.networks(arrays).values()]
    assert not any(one & other for one, other in combinations(departments, 2))


def test_imdb_binary_has_the_known_numbers(shared_data):
    arrays = REGISTRY["imdb-binary"].arrays()
    assert len(arrays["y"]) == 1_000
    assert np.bincount(arrays["y"]).tolist() == [500, 500]
    assert arrays["n_nodes"].mean() == pytest.approx(19.77, abs=0.005)
    assert arrays["n_edges"].mean() == pytest.approx(96.53, abs=0.005)
    datasets = [load("imdb-binary", split) for split in REGISTRY["imdb-binary"].splits]
    assert sum(map(len, datasets)) == (arrays["n_nodes"] <= 32).sum() == 914
    assert all((data.items.sum(-1).max(-1).values == data.properties["nodes"] - 1).all() for data in datasets)
    assert not any(DOMAIN.betti(data.items)[:, 1].any() for data in datasets)  # cones have no loop
