"""What a service says of itself when an operator asks: its machine, its environment, its log."""

from __future__ import annotations

import logging
import os
import platform
import resource
import shutil
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from flpoc import API, __version__
from flpoc.jobs.statements import Order
from flpoc.log_modes import check_mode, set_mode
from flpoc.plugins import Plugins
from flpoc.serving import last_lines

log = logging.getLogger("flpoc")

#: Most lines of a log that are told at once, and most bytes.
MOST_LINES: Final = 2000
_MOST_BYTES: Final = 256 << 10
_STARTED: Final = time.time()


def answer(
    order: Order, *, state: Path, plugins: Plugins, launcher: str, allowed: Iterable[str]
) -> dict[str, Any] | None:
    """Carry out what an order wants of a service, whichever it is; None for what only servers or only sites can do."""
    match order.action:
        case "resources":
            return machine_report(state)
        case "env":
            return environment_report(plugins, launcher, allowed)
        case "version":
            return {"version": __version__, "plugin_api": API}
        case "log":
            return log_report(order.count)
        case "log_mode":
            set_mode(check_mode(order.mode))
            log.warning("logs as %s from now on", order.mode)
            return {"mode": order.mode}
    return None


def machine_report(state: Path) -> dict[str, Any]:
    """Processors, memory, load and disk of this machine, and what this process takes of them."""
    usage, disk = resource.getrusage(resource.RUSAGE_SELF), shutil.disk_usage(state)
    memory = _memory()
    return {
        "cpus": os.cpu_count(),
        "load_1m": round(os.getloadavg()[0], 2),
        "memory_gib": memory.get("MemTotal"),
        "memory_available_gib": memory.get("MemAvailable"),
        "disk_free_gib": round(disk.free / 2**30, 2),
        "process": {
            "pid": os.getpid(),
            "peak_rss_mib": round(usage.ru_maxrss / 1024, 1),
            "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
            "threads": threading.active_count(),
            "uptime_s": round(time.time() - _STARTED, 1),
        },
    }


def environment_report(plugins: Plugins, launcher: str, allowed: Iterable[str]) -> dict[str, Any]:
    """Versions, platform and plugins of this service; no variables of its environment, which may hold secrets."""
    return {
        "flpoc": __version__,
        "plugin_api": API,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "launcher": launcher,
        "plugins": {one.name: one.state.value for one in plugins.records if one.name in {"core", *allowed}},
    }


def log_report(count: int) -> dict[str, Any]:
    """The last lines of this service's log since it began."""
    lines = last_lines(min(max(count, 0), MOST_LINES))
    size, kept = 0, 0
    for line in reversed(lines):
        size += len(line.encode()) + 1
        if size > _MOST_BYTES:
            break
        kept += 1
    return {"lines": lines[len(lines) - kept :], "truncated": kept < len(lines)}


def _memory() -> dict[str, float]:
    """Main memory in GiB, as far as the system says."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    found = (line.split() for line in lines)
    return {words[0].rstrip(":"): round(int(words[1]) / 2**20, 2) for words in found if len(words) == 3}
