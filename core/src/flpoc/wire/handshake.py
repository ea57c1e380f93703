"""Settling whether two sides can work together, before anything else is said."""

from __future__ import annotations

from flpoc.errors import Disagreement
from flpoc.wire.messages import PROTOCOL, Hello


def agree(theirs: Hello, version: str, api: int) -> Disagreement | None:
    """Say why a server of this *version* and a site cannot work together; None when they can."""
    for what, ours, their in (("protocol", PROTOCOL, theirs.protocol), ("plugin interface", api, theirs.api)):
        if ours != their:
            return Disagreement(
                f"the server (flpoc {version}) speaks {what} {ours}, the site (flpoc {theirs.version}) speaks {their}",
                hint="install the same flpoc at both",
            )
    return None
