"""The gate of a simulated site."""

from __future__ import annotations

from pathlib import Path

from flpoc.site.gate import Gate


class SimulatedGate(Gate):
    """Opens files wherever they lie: nothing is isolated in a simulation."""

    def _below_state(self, path: str) -> Path:
        return Path(path)
