"""``python tests/bench/run.py [--json FILE] [--only NAME...] [--quick]``: the table of ``make bench``.

Every bench has a temp folder and a HOME of its own and leaves nothing. One
that fails shows its error in the table and the others go on; then the exit
status is 1. A missed limit is no failure: the table says so.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import install_bench
import limits
import poc_bench
import traffic
from figures import Column, Figure, document, shown, table, verdict
from place import Bench, BenchError

Benches = Mapping[str, Callable[[Bench], Iterator[Figure]]]

#: What can be measured, by the name of its column; a comparable system is another entry with the same keys.
SUBJECTS: Mapping[str, Benches] = {
    "flpoc": {**limits.BENCHES, **traffic.BENCHES, **poc_bench.BENCHES, **install_bench.BENCHES}
}
#: Left out with --quick.
HEAVY = (*traffic.HEAVY, "install")
VERSIONS = ("flpoc", "grpcio", "numpy", "cryptography", "msgspec", "xxhash", "click", "pluggy", "attrs")


def main() -> int:
    args = _arguments()
    columns = []
    run = metadata(args.quick)
    began = time.monotonic()
    for subject, benches in SUBJECTS.items():
        chosen = {name: one for name, one in benches.items() if _wanted(name, args)}
        columns.append(measure(subject, chosen, Bench(args.quick)))
    run["load average at end"] = _load()
    run["took"] = f"{time.monotonic() - began:.0f} s"
    print(table(columns, run))
    if args.json:
        args.json.write_text(json.dumps(document(columns, run), indent=1) + "\n", encoding="utf-8")
    return 1 if any(column.failed for column in columns) else 0


def _arguments() -> argparse.Namespace:
    names = sorted({name for benches in SUBJECTS.values() for name in benches})
    parser = argparse.ArgumentParser(description="Measure flpoc on this machine, beside the limits of its design.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--only", nargs="+", choices=names, default=[], metavar="NAME", help=f"of: {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer runs; nothing to publish")
    return parser.parse_args()


def _wanted(name: str, args: argparse.Namespace) -> bool:
    return name in args.only if args.only else not (args.quick and name in HEAVY)


def measure(subject: str, benches: Benches, bench: Bench) -> Column:
    """Run one bench after the other; each figure is also said on standard error as it comes."""
    figures: list[Figure] = []
    for name, one in benches.items():
        for figure in _guarded(name, one, bench):
            figures.append(figure)
            if figure.value is not None:
                bench.found[figure.key] = figure.value
            print(f"{figure.what}: {shown(figure.value)} {figure.unit} {verdict(figure)}", file=sys.stderr, flush=True)
            if figure.error:
                print(figure.error, file=sys.stderr)
    return Column(subject, figures)


def _guarded(name: str, one: Callable[[Bench], Iterator[Figure]], bench: Bench) -> Iterator[Figure]:
    try:
        yield from one(bench)
    except Exception as error:  # whatever happens in one bench, the others go on and the table says it
        known = isinstance(error, BenchError)
        text = str(error) if known else "".join(traceback.format_exception(error)).strip()
        first = f"{type(error).__name__}: {error}".splitlines()[0]
        yield Figure(f"failed.{name}", f"bench {name}", None, "", error=text if known else f"{first}\n{text}")


def metadata(quick: bool) -> dict[str, Any]:
    """Under which circumstances the figures were taken."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "kind": "quick: nothing to publish" if quick else "full",
        "processors": f"{os.cpu_count()} ({_processor()})",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.1f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "load average at start": _load(),
        "python": platform.python_version(),
        "versions": ", ".join(f"{name} {_version(name)}" for name in VERSIONS),
    }


def _load() -> str:
    return " ".join(f"{one:.2f}" for one in os.getloadavg())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "-"


if __name__ == "__main__":
    sys.exit(main())
