"""The folder that a script keeps things in from round to round."""

from __future__ import annotations

import shutil
from pathlib import Path

from flpoc.wire.trainer_messages import STATE_FOLDER


def unpack_state(kept: str, folder: Path, round_number: int) -> Path:
    """A folder for this round with a copy of what is kept; whatever an earlier round left is deleted.

    Links are copied as links: what they lead to is not read.

    Args:
        kept: The folder to copy; empty when nothing is kept yet.
        folder: The folder of the attempt.
        round_number: The round.
    """
    into = folder / STATE_FOLDER / str(round_number)
    shutil.rmtree(folder / STATE_FOLDER, ignore_errors=True)
    into.parent.mkdir(mode=0o700, parents=True)
    if kept:
        shutil.copytree(kept, into, symlinks=True)
        into.chmod(0o700)
    else:
        into.mkdir(mode=0o700)
    return into
