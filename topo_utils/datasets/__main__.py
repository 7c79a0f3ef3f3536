"""``python -m topo_utils.datasets`` lists the data sets; ``… fetch NAME`` gets one."""

from __future__ import annotations

import argparse
import sys

from topo_utils.datasets import REGISTRY, DataError, Source

FETCH = "python -m topo_utils.datasets fetch"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m topo_utils.datasets",
        description="Without a command: list all data sets, with their licences, and whether they are present.",
        epilog=f"Data that you have already: name their folder in TOPO_DATA (data/README.md). Example: {FETCH} mnist",
    )
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("fetch", help="download one, checksums verified").add_argument("name", choices=REGISTRY)
    options = parser.parse_args(arguments)
    if options.command == "fetch":
        return _fetch(REGISTRY[options.name])
    width = max(map(len, REGISTRY))
    for name, source in REGISTRY.items():
        print(f"{name:{width}}  {source.summary}")
        print(f"{'':{width}}  licence: {source.licence}")
        print(f"{'':{width}}  {_state(source)}\n")
    return 0


def _state(source: Source) -> str:
    if source.present():
        return "present"
    if hasattr(source, "fetch"):
        return f"missing: {FETCH} {source.name}"
    return "missing: there is no download; name a folder that holds it in TOPO_DATA, see data/README.md"


def _fetch(source: Source) -> int:
    if not hasattr(source, "fetch"):
        print(f"{source.name} is {_state(source)}")
        return 0 if source.present() else 1
    try:
        print(f"{source.name} is in {source.fetch()}")
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
