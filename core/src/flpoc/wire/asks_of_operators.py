"""What operators ask of the server in few words; apart, for commands that must be quick."""

from __future__ import annotations

import attrs

from flpoc.wire import checks


@attrs.frozen
class BlockSite:
    """Keep a site out, or let it in again."""

    site: str = attrs.field(validator=checks.site_name)
    reason: str = ""
    study: str = "default"


@attrs.frozen
class AboutStudy:
    """A study by its name."""

    name: str = ""


@attrs.frozen
class ChangeStudy:
    """What is to be added to a study, or removed from it.

    Attributes:
        name: The study.
        site_orgs: Organisation to its sites.
        user: A user's name, where it is about one.
    """

    name: str
    site_orgs: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    user: str = ""
