"""Mutation testing: plant one small error at a time, and see whether a test of its package notices.

    python tests/mutants/run.py                                    # a sample from the packages below
    python tests/mutants/run.py topo_utils/training --sample 0     # all mutants of a package
    python tests/mutants/run.py topo_utils/training/vae.py:31-36   # of a file, of a line, of some lines

The mutants are those of ``mutate.py``. Each runs in a process that is forked after the heavy libraries were imported once,
in a copy of the working tree, and only with the tests that mirror its module: ``topo_utils/a/b.py`` is the business of
``tests/a``, ``test_b.py`` first, and ``topo_utils/a.py`` that of ``tests/test_a.py``. What hypothesis draws is fixed.

A mutant is killed by the first test that fails, or when it takes ten times the processor time of the unharmed code, or so
much longer by the clock that it must hang. Why no tool: mutmut 3 leaves out decorated functions, all those under
``torch.no_grad`` and every property; cosmic-ray starts Python anew for each mutant, and torch takes seconds to import.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mutate import Mutant, mutants

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = [f"topo_utils/{name}" for name in ("training", "evaluation", "models", "topology")]
HEAVY = (
    *("torch", "torchvision", "lightning.pytorch", "torchmetrics.image.fid", "numba", "pandas", "matplotlib.pyplot"),
    *("scipy.stats", "scipy.optimize", "sklearn.neighbors", "gudhi", "ripser", "persim", "networkx", "rdkit.Chem"),
    *("torch.utils.tensorboard", "nbformat", "papermill"),
)
SLOWER, PATIENCE = 10, 60  # a mutant may take so many times as long as the unharmed code, and so many seconds more


def tests_of(module: str) -> tuple[str, ...]:
    """Test files of a module, its own first."""
    parts = Path(module).with_suffix("").parts[1:]
    own = REPOSITORY / "tests" / Path(*parts[:-1], f"test_{parts[-1].strip('_')}.py")
    rest = sorted((REPOSITORY / "tests" / parts[0]).rglob("test_*.py"))
    files = [file for file in dict.fromkeys([own, *rest]) if file.exists()]
    if not files:
        raise SystemExit(f"{module}: no tests in tests/{parts[0]} nor in {own.relative_to(REPOSITORY)}")
    return tuple(str(file.relative_to(REPOSITORY)) for file in files)


class Watch:
    """Pytest plugin: remembers the first failure, and keeps hypothesis from shrinking what it finds."""

    failed = ""

    def pytest_configure(self) -> None:
        from hypothesis import Phase, settings

        settings.register_profile("mutants", settings.default, phases=(Phase.explicit, Phase.generate), database=None)
        settings.load_profile("mutants")

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed:
            self.failed = self.failed or report.nodeid

    def pytest_collectreport(self, report) -> None:
        if report.failed:
            self.failed = self.failed or f"{report.nodeid} (import)"


@dataclass
class Job:
    """One run of tests in a copy of the tree; ``mutant`` is None for the unharmed code."""

    module: str
    mutant: Mutant | None
    limits: tuple[float, float] | None = None
    tree: Path | None = None
    started: float = 0.0
    outcome: str = ""
    by: str = ""
    seconds: float = 0.0
    processor: float = 0.0
    source: str = ""

    def start(self, tree: Path) -> int:
        """Fork; returns the id of the process."""
        self.tree, self.started = tree, time.monotonic()
        (tree / "failed.txt").write_text("")
        file = tree / self.module
        self.source = file.read_text()
        if self.mutant:
            file.write_text(self.mutant.apply(self.source))
        sys.stdout.flush()
        process = os.fork()
        if not process:
            self._run()
        return process

    def _run(self) -> None:
        """In the child: never returns."""
        code = 70
        try:
            os.setsid()
            if self.limits:
                resource.setrlimit(resource.RLIMIT_CPU, (int(self.limits[0]) + 1, resource.RLIM_INFINITY))
            output = os.open(self.tree / "output.txt", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.chdir(self.tree)
            os.environ["PYTHONPATH"] = str(self.tree)
            sys.path.insert(0, str(self.tree))
            sys.dont_write_bytecode = True  # two mutants of one second and size would look the same to it
            import pytest

            watch = Watch()
            options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0"]
            code = pytest.main([*options, *tests_of(self.module)], plugins=[watch])
            (self.tree / "failed.txt").write_text(watch.failed)
        finally:
            sys.stdout.flush()
            os._exit(code)

    def overdue(self) -> bool:
        """Whether it has taken so long that it must hang."""
        return self.limits is not None and time.monotonic() - self.started > self.limits[1]

    def finish(self, process: int, status: int, usage: resource.struct_rusage) -> None:
        """Note how it ended, put the module back, and end what the tests may have left running."""
        with suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        self.seconds, self.processor = time.monotonic() - self.started, usage.ru_utime + usage.ru_stime
        if os.WIFSIGNALED(status):
            names = {signal.SIGXCPU: "took too long", signal.SIGKILL: "hung"}
            self.outcome, self.by = "killed", names.get(os.WTERMSIG(status), f"signal {os.WTERMSIG(status)}")
        elif os.WEXITSTATUS(status):
            self.outcome, self.by = "killed", (self.tree / "failed.txt").read_text() or "import"
        else:
            self.outcome = "survived"
        (self.tree / self.module).write_text(self.source)


def perform(jobs: list[Job], trees: list[Path], done) -> None:
    """Run the jobs, one in each tree at a time; ``done`` is called with each that has ended."""
    waiting, free, running = list(reversed(jobs)), list(trees), {}
    while waiting or running:
        while waiting and free:
            job = waiting.pop()
            running[job.start(free.pop())] = job
        process, status, usage = os.wait4(-1, os.WNOHANG)
        if process in running:
            job = running.pop(process)
            job.finish(process, status, usage)
            free.append(job.tree)
            done(job)
            continue
        for process, job in running.items():
            if job.overdue():
                os.killpg(process, signal.SIGKILL)
        time.sleep(0.1)


def copies(folder: Path, count: int) -> list[Path]:
    """Copies of the working tree: what git tracks, and what it does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines()
    trees = [folder / f"tree{index}" for index in range(count)]
    for tree in trees:
        for name in names:
            if (REPOSITORY / name).is_file():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(REPOSITORY / name, tree / name)
    return trees


def chosen(where: list[str], sample: int, seed: int) -> list[tuple[str, Mutant]]:
    """The mutants of the given packages, files, or lines (``file:first-last``); a sample of them, in random order."""
    found = []
    for each in where:
        name, _, lines = each.partition(":")
        first, _, last = lines.partition("-")
        span = range(int(first), int(last or first) + 1) if lines else None
        path = REPOSITORY / name
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        for file in files:
            module = str(file.relative_to(REPOSITORY))
            found += [(module, mutant) for mutant in mutants(file.read_text()) if span is None or mutant.line in span]
    random.Random(seed).shuffle(found)
    return found[:sample] if sample else found


def main() -> int:
    parser = argparse.ArgumentParser(description="plant small errors, one at a time, and see which no test notices")
    parser.add_argument("where", nargs="*", default=PACKAGES, help="packages, files, or file:first-last line")
    parser.add_argument("--sample", type=int, default=100, help="so many mutants, drawn at random; 0 for all")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="mutants at a time")
    parser.add_argument("--table", type=Path, help="CSV file for the whole table")
    parser.add_argument("--list", action="store_true", help="only show the mutants")
    given = parser.parse_args()
    planned = chosen(given.where, given.sample, given.seed)
    if given.list:
        for module, mutant in sorted(planned):
            print(f"{module}:{mutant.line}  {mutant.what}")
        return 0
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "MPLBACKEND": "Agg"}
    for name in HEAVY:
        __import__(name)
    with tempfile.TemporaryDirectory() as scratch:
        results = measured(planned, copies(Path(scratch), given.jobs))
    if given.table:
        with given.table.open("w", newline="") as file:
            csv.writer(file).writerows([("module", "line", "mutant", "outcome", "by", "seconds"), *results])
    for module in sorted({row[0] for row in results}):
        outcomes = [row[3] for row in results if row[0] == module]
        print(f"{module}: {outcomes.count('killed')} of {len(outcomes)} killed")
    outcomes = [row[3] for row in results]
    print(f"all: {outcomes.count('killed')} of {len(outcomes)} killed")
    return 0


def measured(planned: list[tuple[str, Mutant]], trees: list[Path]) -> list[tuple]:
    """Rows of the table: the unharmed code first, whose time sets the limits; then the mutants, as they end."""
    unharmed = {frozenset(tests_of(module)): Job(module, None) for module, _ in planned}
    perform(list(unharmed.values()), trees, lambda job: None)
    for job in unharmed.values():
        if job.outcome != "survived":
            print((job.tree / "output.txt").read_text())
            raise SystemExit(f"the unharmed code fails {job.by}")
    results = []

    def done(job: Job) -> None:
        row = (job.module, job.mutant.line, job.mutant.what, job.outcome, job.by, round(job.seconds, 1))
        results.append(row)
        print(f"{len(results)}/{len(planned)} {row[3]:8} {row[0]}:{row[1]}  {row[2]}  {row[4]}", flush=True)

    def limits(module: str) -> tuple[float, float]:
        job = unharmed[frozenset(tests_of(module))]
        return SLOWER * job.processor + PATIENCE, SLOWER * job.seconds + PATIENCE

    perform([Job(module, mutant, limits(module)) for module, mutant in planned], trees, done)
    return sorted(results)


if __name__ == "__main__":
    sys.exit(main())
