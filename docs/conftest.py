"""Examples that are packages are tested where they are installed: see ``tests/strangers``."""

from __future__ import annotations

collect_ignore_glob = ["examples/flpoc-*"]
