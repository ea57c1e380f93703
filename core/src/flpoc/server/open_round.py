"""The round that is open: who owes an update, who has sent one, who came too late."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from pathlib import Path

import attrs

from flpoc.server.models import Model
from flpoc.server.rounds import UpdateRow
from flpoc.wire.controller_messages import Assign, Closed, SiteUpdate
from flpoc.wire.messages import Announce, Verdict


@attrs.define
class OpenRound:
    """The round whose updates are wanted now.

    Attributes:
        number: Counted from 0.
        assign: What the controller has asked for last; None before it has.
        handed: The model of that task, if it is not the committed one.
        late: Sites that the round was closed without; what they send of it is not counted any more.
        asked: Sites that were asked in this round so far, or will be.
        received: Updates that are here, by site.
    """

    number: int
    assign: Assign | None = None
    handed: Model | None = None
    late: set[str] = attrs.field(factory=set)
    asked: set[str] = attrs.field(factory=set)
    received: dict[str, SiteUpdate] = attrs.field(factory=dict)
    _checksums: dict[str, str] = attrs.field(factory=dict)

    def count(self, update: UpdateRow, path: Path) -> None:
        """An update is here, in the file *path*."""
        self.received[update.site] = update.as_site_update(path)
        self._checksums[update.site] = update.checksum

    def ask(self, assign: Assign) -> None:
        """The controller asks, for the first time in this round or further sites."""
        self.assign = assign
        self.asked |= {*assign.sites, *assign.later}

    def awaits(self, site: str) -> bool:
        """Whether an update of this site would still be counted."""
        return site not in self.late and site not in self.received

    def judge(self, site: str, message: Announce) -> tuple[Verdict, str]:
        """Whether an announced update is wanted; if not, why."""
        if message.round > self.number:
            # a restart has forgotten the last commit; the controller is about to ask for it again
            return "WAIT", f"round {self.number} is not committed yet"
        if message.round < self.number:
            return "STALE", f"round {self.number} is open"
        if site in self.late:
            return "STALE", f"round {self.number} is closed"
        if site in self.received and self._checksums[site] != message.checksum:
            return "SUPERSEDED", ""
        return "ALL", ""

    def owing(self, failures: Container[str]) -> list[str]:
        """Sites whose update is still to come."""
        sites: Iterable[str] = self.assign.sites if self.assign is not None else ()
        return [site for site in sites if self.awaits(site) and site not in failures]

    def lacks(self, quorum: int, failures: Container[str]) -> bool:
        """Whether too few updates are here for the task at hand, counting those that are asked for later."""
        assert self.assign is not None
        here = {*self.received, *(site for site in self.assign.later if self.awaits(site) and site not in failures)}
        return len(here) < min(quorum, len({*here, *self.assign.sites, *self.assign.later}))

    def close(self, failures: Mapping[str, str]) -> Closed:
        """What the controller is told: updates in site order, and who is missing and why."""
        assert self.assign is not None
        sites = self.assign.sites
        missing = {site: failures.get(site, "late") for site in sites if site not in self.received}
        return Closed(self.number, tuple(self.received[site] for site in sites if site in self.received), missing)

    @property
    def trained(self) -> dict[str, float]:
        """The weights of the updates that are here."""
        return {site: update.weight for site, update in self.received.items()}
