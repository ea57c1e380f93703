"""``python -m flpoc.simulate``: one simulation; its order comes as a line of JSON, and what happens goes out likewise.

It ends, with all that it has started, when its standard input does.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any

import attrs

from flpoc.ending import end, flush_files
from flpoc.errors import MAKE_ROOM, FlpocError, disk_is_full
from flpoc.settings import parse_json, structure
from flpoc.simulate.engine import simulate
from flpoc.simulate.order import Order
from flpoc.simulate.pool import PoolPlan, ProcessPool
from flpoc.simulate.worker import settle_memory


def main() -> int:
    news = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    order = structure(parse_json(_first_line(0), "order"), Order)
    sys.dont_write_bytecode = True
    _raise_limit()

    def say(**what: Any) -> None:
        news.write(json.dumps(what).encode() + b"\n")

    def progress(number: int, rounds: int, metrics: dict[str, float]) -> None:
        say(round=number, rounds=rounds, metrics=metrics)

    def pool(settings: PoolPlan) -> ProcessPool:
        settle_memory()
        return ProcessPool(settings)

    try:
        outcome = simulate(order, progress, pool=pool, hangs_up=0)
    except FlpocError as error:
        say(error={"code": error.code, "message": error.message, "hint": error.hint, "data": error.data})
        return error.exit_status
    except OSError as error:
        said = f"{error.filename or order.workspace}: {error.strerror or error}"
        code, hint = ("DISK_FULL", MAKE_ROOM) if disk_is_full(error) else ("FILE_FAILED", "look at its permissions")
        say(error={"code": code, "message": said, "hint": hint, "data": None})
        return 1
    say(**attrs.asdict(outcome, filter=lambda field, _: field.name != "results"), results=str(outcome.results))
    return 0


def _first_line(file: int) -> bytes:
    """The order; what comes after it is left where it is."""
    line = b""
    while not line.endswith(b"\n") and (part := os.read(file, 1 << 16)):
        line += part
    return line


def _raise_limit() -> None:
    """As many open files as this user may have: each worker takes some."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if most == resource.RLIM_INFINITY else min(most, 65536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


if __name__ == "__main__":
    status = main()
    flush_files()
    end(status)
    sys.exit(status)
