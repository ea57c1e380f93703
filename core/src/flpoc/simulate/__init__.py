"""Many virtual sites on one machine: the same workflow, aggregator and client API, without server, kits and network.

    from flpoc.simulate import run

    outcome = run(Path("my-job"), sites=["site-1", "site-2"], workers=2, workspace=Path("results"))

Nothing is isolated here: scripts run with all rights of the user.
"""

from __future__ import annotations

from flpoc.simulate.outcome import Outcome
from flpoc.simulate.starting import run

__all__ = ["Outcome", "run"]
