"""Which graphics processors the sites of a proof of concept use."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence

from flpoc.errors import UsageError

_SECONDS = 20.0


def host_gpus() -> tuple[str, ...]:
    """Ids of this machine's graphics processors, as ``nvidia-smi -L`` lists them; empty without the program."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(re.findall(r"^GPU (\d+):", done.stdout, re.MULTILINE)) if done.returncode == 0 else ()


def assign_gpus(sites: Sequence[str], wanted: Sequence[str] | None, there: Sequence[str]) -> dict[str, list[str]]:
    """Deal graphics processors to sites.

    Args:
        sites: Who gets some, in order.
        wanted: Ids in the order in which they are dealt, repeats as given; None for all that are there.
        there: What this machine has.

    Returns:
        The ids of each site; nobody has an entry when there is nothing to deal.

    Raises:
        UsageError: An id is wanted that is not there.
    """
    ids = list(there if wanted is None else wanted)
    unknown = list(dict.fromkeys(one for one in ids if one not in there))
    if unknown:
        have = f"this machine has {', '.join(there)}" if there else "none is available on this machine"
        joined = any("," in one for one in unknown)
        hint = "write them one after the other: -gpu 0 1" if joined else "leave out -gpu to use what there is"
        raise UsageError(f"no GPU {' and no GPU '.join(unknown)}: {have}", hint=hint)
    if not ids or not sites:
        return {}
    if len(ids) <= len(sites):
        return {site: [ids[place % len(ids)]] for place, site in enumerate(sites)}
    return {site: ids[place :: len(sites)] for place, site in enumerate(sites)}
