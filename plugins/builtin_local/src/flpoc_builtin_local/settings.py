"""What can be set for the ``local`` launcher."""

from __future__ import annotations

from typing import Literal

import attrs


@attrs.frozen
class LocalSettings:
    """Settings of the ``local`` launcher.

    Attributes:
        confine: Whether processes of jobs are confined by Landlock. ``auto``: as much as this kernel can.
            ``always``: not started unless files, TCP and signals all can be. ``never``: not at all.
        readable: Folders that confined processes may read and run programs from, besides the system's and those of
            their interpreter: where else software is installed.
    """

    confine: Literal["auto", "always", "never"] = "auto"
    readable: tuple[str, ...] = ()
