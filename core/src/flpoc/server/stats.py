"""What is known of a running job beyond its metadata: per server and site, in groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flpoc.server.views import iso
from flpoc.wire.vocabulary import PHASES

if TYPE_CHECKING:
    from flpoc.server.runs import Run
    from flpoc.server.service import Server


async def stats_of(run: Run, server: Server) -> dict[str, Any]:
    """Name of the server or site to groups of numbers and words."""
    row = run.row
    rounds = {
        "current": run.round_now + 1 if run.round_now is not None else None,
        "committed": run.lineage.committed + 1,
        "total": run.spec.rounds,
    }
    found: dict[str, Any] = {
        "server": {
            "rounds": rounds,
            "metrics": dict(row.metrics),
            "model": {"bytes": run.lineage.model.ref.size if run.lineage.model is not None else None},
            "controller": {"connected": run.has_controller, "waiting_for": run.waiting_for() or None},
        }
    }
    logged = await server.metrics.latest(row.id, row.run)
    for site in run.sites:
        session = server.sites.connected.get(site)
        found[site] = {
            "state": {
                "doing": doing(run, site),
                "joined": site in run.joined,
                "connected": session is not None,
                "last_seen": iso(session.seen) if session is not None else None,
                "quiet_s": round(run.quiet(site), 3),
                "failure": run.failures.get(site),
            },
            "update": _update(run, site),
            "metrics": logged.get(site, {}),
        }
    return found


def doing(run: Run, site: str) -> str:
    """What a site does now, in a word or two."""
    if site in run.failures:
        return "out"
    if site not in run.joined:
        return "joining"
    assign = run.round.assign
    if assign is None or not run.started:
        return "waiting"
    if site in run.round.received:
        return "update received"
    if site in run.round.late:
        return "late"
    if site in run.in_line:
        return "waiting to upload"
    return PHASES[assign.kind]


def _update(run: Run, site: str) -> dict[str, Any]:
    """The update of the open round, if it is here."""
    update = run.round.received.get(site)
    if update is None:
        return {}
    return {"round": run.next_round + 1, "weight": update.weight, "metrics": dict(update.metrics)}
