"""Every message between a site's agent and its gate, over the socket that the gate inherits."""

from __future__ import annotations

import attrs

from flpoc.filtering import FilterSpec
from flpoc.wire import checks
from flpoc.wire.codec import Family
from flpoc.wire.trainer_messages import Beat
from flpoc.wire.vocabulary import TaskKind


@attrs.frozen
class Begin:
    """The first message: who the gate works for, and what it may load.

    Attributes:
        site: Name of the site.
        plugins: Names of the plugins that the site's kit lists.
        state: The site's state folder; files elsewhere are not opened.
        secret: Secret of the site, from which filters get their chance.
    """

    site: str
    plugins: tuple[str, ...]
    state: str
    secret: bytes = attrs.field(repr=False)


@attrs.frozen
class Check:
    """Make these filters, to see whether they can be made."""

    filters: tuple[FilterSpec, ...]


@attrs.frozen
class Checked:
    """All of them can be made."""


@attrs.frozen
class Apply:
    """Let an update pass these filters.

    ``update`` with its size and checksum is what the script sent, ``received``
    the model it was trained from (or empty), ``work`` an empty folder for
    what is made of it.
    """

    job: str = attrs.field(validator=checks.job_id)
    run: int = attrs.field(validator=checks.count)
    round: int = attrs.field(validator=checks.round_number)
    kind: TaskKind
    params_type: str = attrs.field(validator=checks.params_type)
    weight: float = attrs.field(validator=checks.weight)
    filters: tuple[FilterSpec, ...]
    update: str
    size: int = attrs.field(validator=checks.count)
    checksum: str = attrs.field(validator=checks.checksum)
    received: str
    work: str


@attrs.frozen
class Passed:
    """What may leave: a file in the work folder."""

    file: str
    size: int = attrs.field(validator=checks.count)
    checksum: str = attrs.field(validator=checks.checksum)


@attrs.frozen
class Stopped:
    """Nothing may leave, and why.

    Attributes:
        filter: Name of the filter; empty if it is not about one.
        exception: Class of what was raised, or empty.
        message: What it said.
        file: File of the filter in which it was raised, or empty.
        line: Line in that file, or 0.
        hint: What to do about it, or empty.
        code: Code of the error, for what flpoc itself has found.
        full: The disk is full: it may be tried again.
    """

    filter: str
    exception: str
    message: str
    file: str = ""
    line: int = 0
    hint: str = ""
    code: str = ""
    full: bool = False


TO_GATE = Family("agent", Begin, Check, Apply)
FROM_GATE = Family("gate", Checked, Passed, Stopped, Beat)
