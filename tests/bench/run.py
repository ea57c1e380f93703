"""``python tests/bench/run.py [--peer NAME...] [--json FILE] [--markdown PAGE] [--only NAME...] [--quick]``.

The table of ``make bench``. Every bench has a temp folder and a HOME of its own
and leaves nothing. One that fails shows its error in the table and the others go
on; then the exit status is 1. A missed limit is no failure: the table says so.

With peers, each bench is done for flpoc and then at once for the peers, so that
all find the machine in much the same state.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import commands_bench
import docker_bench
import flwr_bench
import install_bench
import limits
import nvflare_bench
import poc_bench
import simulation_bench
import traffic
from figures import Column, Figure, document, read_document, shown, table, verdict
from page import BEGIN, END, has_place, write_page
from place import Bench, BenchError, Measurement
from rows import ROWS

ROOT = Path(__file__).resolve().parents[2]
OURS = "flpoc"


@attrs.frozen
class Subject:
    """Who is measured: the title of the column, and its benches by name; the same name is the same work."""

    title: str
    benches: Mapping[str, Measurement]


SUBJECTS: Mapping[str, Subject] = {
    OURS: Subject(
        OURS,
        {
            **limits.BENCHES,
            **traffic.BENCHES,
            **poc_bench.BENCHES,
            **commands_bench.BENCHES,
            **install_bench.BENCHES,
            **docker_bench.BENCHES,
            **simulation_bench.BENCHES,
        },
    ),
    "nvflare": Subject(nvflare_bench.TITLE, nvflare_bench.BENCHES),
    "flwr": Subject(flwr_bench.TITLE, flwr_bench.BENCHES),
}
#: Left out with --quick.
HEAVY = (*traffic.HEAVY, "docker", "install", "simulate-16", "simulate-memory")
VERSIONS = ("flpoc", "grpcio", "numpy", "cryptography", "msgspec", "xxhash", "click", "pluggy", "attrs")


def main() -> int:
    args = _arguments()
    # told to end, it cleans up as after an error
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if args.source:
        columns, run = read_document(json.loads(args.source.read_text(encoding="utf-8")))
    else:
        columns, run = measure_all(args)
    print(table(columns, run))
    if args.json:
        args.json.write_text(json.dumps(document(columns, run), indent=1) + "\n", encoding="utf-8")
    if args.markdown:
        write_page(args.markdown, columns, run)
    return 1 if any(column.failed for column in columns) else 0


def _arguments() -> argparse.Namespace:
    names = sorted({name for subject in SUBJECTS.values() for name in subject.benches})
    peers = [name for name in SUBJECTS if name != OURS]
    parser = argparse.ArgumentParser(
        description="Measure flpoc on this machine, beside the limits of its design and, if wanted, another system.",
        epilog="Six minutes for flpoc on two processors with nothing else to do, twelve more for nvflare and two for "
        "flwr; with --quick three, four and one.",
    )
    parser.add_argument("--peer", nargs="+", choices=peers, default=[], help="measure these, too, in the same run")
    parser.add_argument(
        "--venvs", type=Path, default=ROOT, metavar="FOLDER", help="where they are installed, each in .venv-PEER"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--markdown", type=Path, metavar="PAGE", help="write the table between the marks of this page")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="measure nothing; show a --json file")
    parser.add_argument("--only", nargs="+", choices=names, default=[], metavar="NAME", help=f"of: {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer runs; nothing to publish")
    args = parser.parse_args()
    if args.markdown and args.quick:
        parser.error("--markdown is not for a --quick run")
    if args.markdown and (missing := _missing(args.only)):
        parser.error(f"--markdown is for whole sections; measure {' '.join(missing)}, too")
    if args.markdown and not has_place(args.markdown):
        parser.error(f"{args.markdown}: there is no place for the table; it needs the lines\n{BEGIN}\n{END}")
    for peer in args.peer if not args.source else ():
        if not (_programs(args, peer) / peer).exists():
            parser.error(f"{peer} is not installed in {_programs(args, peer)}; `make bench PEER={peer}` installs it")
    return args


def _programs(args: argparse.Namespace, peer: str) -> Path:
    return Path(args.venvs).resolve() / f".venv-{peer}" / "bin"


def _missing(only: Sequence[str]) -> list[str]:
    """Benches of flpoc that were not chosen, and fill other rows of a section of which some were."""
    sections = {name: {ROWS[key].section for key in one.keys} for name, one in SUBJECTS[OURS].benches.items()}
    begun = {section for name in only for section in sections.get(name, ())}
    return [name for name, its in sections.items() if its & begun and name not in only]


def measure_all(args: argparse.Namespace) -> tuple[list[Column], dict[str, Any]]:
    """One bench after the other, each for all subjects."""
    chosen = [OURS, *args.peer]
    benches = {OURS: Bench(args.quick), **{peer: Bench(args.quick, _programs(args, peer)) for peer in args.peer}}
    figures: dict[str, list[Figure]] = {subject: [] for subject in chosen}
    run = metadata(args)
    began = time.monotonic()
    for name in dict.fromkeys(name for subject in chosen for name in SUBJECTS[subject].benches):
        for subject in chosen:
            if _wanted(name, args) and name in SUBJECTS[subject].benches:
                figures[subject] += measure(subject, name, SUBJECTS[subject].benches[name], benches[subject])
    run["load average at end"] = _load()
    run["took"] = f"{time.monotonic() - began:.0f} s"
    return [Column(one, figures[one], SUBJECTS[one].title) for one in chosen], run


def _wanted(name: str, args: argparse.Namespace) -> bool:
    return name in args.only if args.only else not (args.quick and name in HEAVY)


def measure(subject: str, name: str, one: Measurement, bench: Bench) -> list[Figure]:
    """Run one bench; each figure is also said on standard error as it comes."""
    figures = []
    for figure in guarded(name, one, bench):
        figures.append(figure)
        if figure.value is not None:
            bench.found[figure.key] = figure.value
        said = "failed" if figure.error else f"{shown(figure.value)} {figure.row.unit}"
        held = verdict(figure) if subject == OURS else ""
        print(f"{subject}: {figure.row.what}: {said} {held}".rstrip(), file=sys.stderr, flush=True)
    for error in dict.fromkeys(figure.error for figure in figures if figure.error):
        print(error, file=sys.stderr)
    return figures


def guarded(name: str, one: Measurement, bench: Bench) -> Iterator[Figure]:
    """What a bench finds, and an error for each row that it promised and did not fill."""
    missing = list(one.keys)
    error = f"bench {name} did not measure it"
    try:
        for figure in one.run(bench):
            if figure.key not in missing:
                raise BenchError(f"bench {name} measured {figure.key}, which is not its row")
            missing.remove(figure.key)
            yield figure
    except Exception as caught:  # whatever happens in one bench, the others go on and the table says it
        error = _reason(caught)
        missing = missing or [one.keys[-1]]  # all was measured, and then something went wrong
    yield from (Figure(key, None, error=error) for key in missing)


def _reason(caught: Exception) -> str:
    """One line for the table, and all the rest after it."""
    if isinstance(caught, BenchError):
        return "\n".join([str(caught), *getattr(caught, "__notes__", [])])
    first = f"{type(caught).__name__}: {caught}".splitlines()[0]
    return "\n".join([first, *traceback.format_exception(caught)]).strip()


def metadata(args: argparse.Namespace) -> dict[str, Any]:
    """Under which circumstances the figures were taken."""
    kind = f"only {', '.join(args.only)}" if args.only else "full"
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "kind": "quick: nothing to publish" if args.quick else kind,
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
