"""``python -m topo_utils.runs NOTEBOOK …`` runs notebooks and keeps their records."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from topo_utils import paths
from topo_utils.config import ConfigError
from topo_utils.runs.execution import execute
from topo_utils.runs.parameters import assignments, described_parameters, read_parameters, resolve
from topo_utils.runs.record import PROVENANCE, Record, RunError, table
from topo_utils.runs.results import keep, publish

MORE = """\
examples:
  python -m topo_utils.runs --parameters notebooks/06_train_topovae.ipynb
  python -m topo_utils.runs notebooks/06_train_topovae.ipynb -p dataset=torus -p gamma_latent=30 -p seed=1
  python -m topo_utils.runs notebooks/06_train_topovae.ipynb -f notebooks/params/smoke/06_train_topovae.yaml

The record appears in data/runs when the run has succeeded, whole. A run that was stopped goes on from its last checkpoint
when the same command is given again; until then it lies in a folder that ends in .partial.

exit codes: 0 all is done, 1 a run failed, 2 wrong parameters (nothing was started), 130 interrupted
"""


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code: 0, 1 for a failed run, 2 for wrong parameters, 130 when it was interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m topo_utils.runs",
        description="Run notebooks and keep their records.",
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    parser.add_argument("-f", "--file", type=Path, help="YAML file of parameters, such as notebooks/params/smoke/…")
    parser.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="one parameter")
    parser.add_argument("--parameters", action="store_true", help="run nothing: list the notebooks' parameters")
    parser.add_argument(
        "--publish", action="store_true", help="write the executed notebooks back, and their tables into data/results"
    )
    parser.add_argument(
        "--keep",
        metavar="TABLE",
        help="run nothing: collect records, given in place of notebooks, in data/results/TABLE.csv",
    )
    parser.add_argument(
        "--skip-done", action="store_true", help="run nothing where the record is there, of the same code and data"
    )
    parser.add_argument("--receipt", type=Path, metavar="FILE", help="copy the record's provenance there when all is done")
    options = parser.parse_args(arguments)
    if options.receipt and len(options.notebooks) > 1:
        parser.error("--receipt is of one notebook")
    if options.keep and (options.publish or options.file or options.parameter):
        parser.error("--keep runs nothing: it goes with records alone")
    if options.publish and (options.file or options.parameter):
        parser.error("--publish keeps the run with the defaults: it goes with neither -f nor -p")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if options.parameters:
            for notebook in options.notebooks:
                _list_parameters(notebook)
            return 0
        if options.keep:
            print(keep(options.keep, options.notebooks))
            return 0
        given = {**(read_parameters(options.file) if options.file else {}), **assignments(options.parameter)}
        for notebook in options.notebooks:
            resolve(notebook, given)  # all of them are checked before the first one starts
        for notebook in options.notebooks:
            record = execute(notebook, given, resume=not options.publish, skip_done=options.skip_done)
            if options.publish:
                publish(notebook, record)
            _report(record)
            if options.receipt:
                with paths.atomic(options.receipt) as scratch:
                    scratch.write_bytes((record / PROVENANCE).read_bytes())
    except (ConfigError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def _interrupt(number: int, frame: object) -> None:
    """A batch engine that cancels sends SIGTERM: the kernel has to end, too."""
    raise KeyboardInterrupt


def _list_parameters(notebook: Path) -> None:
    found = {f"{name}={json.dumps(value)}": comment for name, (value, comment) in described_parameters(notebook).items()}
    width = max(map(len, found), default=0)
    print(f"{notebook}")
    for assignment, comment in found.items():
        print(f"  {assignment:{width}}  {comment}".rstrip())


def _report(path: Path) -> None:
    record = Record(path)
    described = table(record.metrics)
    if len(described):
        print("\n" + described.to_string(float_format="{:.4g}".format), end="\n\n")
    when = " since it was resumed" if record.provenance["resumed"] else ""
    print(
        f"{record.provenance['wall_seconds']:.0f} s{when}. The executed notebook is {path / 'notebook.ipynb'}", flush=True
    )


if __name__ == "__main__":
    sys.exit(main())
