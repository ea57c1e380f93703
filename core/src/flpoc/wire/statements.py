"""What users sign for the server and its sites, apart from jobs; it needs nothing of what describes a job."""

from __future__ import annotations

import attrs

from flpoc.jobs.statements import SignedStatement


@attrs.frozen
class GiveOrder:
    """An order for the server or its sites, as the user signed it."""

    order: SignedStatement
    study: str = "default"


@attrs.frozen
class Revoke:
    """The next list of revoked certificates."""

    signed: SignedStatement
