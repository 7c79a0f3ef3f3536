"""``python -m topo_utils.datasets`` lists the data sets; ``… fetch NAME`` gets one."""

from __future__ import annotations

import argparse
import sys

from topo_utils.datasets import REGISTRY, DataError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m topo_utils.datasets", description="List or fetch data sets.")
    commands = parser.add_subparsers(dest="command")
    fetchable = [name for name, source in REGISTRY.items() if hasattr(source, "fetch")]
    commands.add_parser("fetch", help="download one").add_argument("name", choices=fetchable)
    options = parser.parse_args(arguments)
    if options.command == "fetch":
        try:
            print(f"{options.name} is in {REGISTRY[options.name].fetch()}")
        except (DataError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        return 0
    for name, source in REGISTRY.items():
        state = "present" if source.present() else f"missing: python -m topo_utils.datasets fetch {name}"
        print(f"{name:10} {source.summary}\n{'':10} licence: {source.licence}\n{'':10} {state}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
