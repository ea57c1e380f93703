"""How a script's part in a job came to its end when it should not have: the same words wherever it ran."""

from __future__ import annotations

import attrs

from flpoc.jobs.processes import signal_name
from flpoc.jobs.states import Cause
from flpoc.wire.trainer_messages import Failed

#: Launches of a script for the same task before its site gives up.
LAUNCHES = 3
#: Seconds that a script has to end by itself once nothing more is wanted of it, besides what the job gives it.
END_WITHIN = 60.0
#: Seconds that a script gets to end by itself when it is stopped.
STOP_GRACE = 2.0


@attrs.frozen
class Ending:
    """How a script's process has ended.

    Attributes:
        code: Its exit code; negative for a signal, None if nobody knows.
        peak_rss: Bytes of main memory that it took at most, if known.
        reason: What its launcher says about it.
    """

    code: int | None
    peak_rss: int | None = None
    reason: str = ""


def cause_of_end(
    site: str, said: Failed | None, ending: Ending, round_number: int | None, tail: tuple[str, ...]
) -> Cause:
    """Why a site has failed whose script has ended.

    Args:
        site: The site.
        said: What the process itself has said of it.
        ending: How it has ended.
        round_number: The round of its task; None if it had none.
        tail: The last lines of its log.
    """
    code = ending.code
    if said is not None:
        return Cause(
            site=site, phase=said.phase or "training", round=said.round, exception=said.exception,
            message=said.message, file=said.file, line=said.line, exit_code=code, peak_rss=ending.peak_rss,
            log_tail=tail, hint=said.hint,
        )  # fmt: skip
    too_early = code == 0
    what = "the job did" if round_number is None else f"round {round_number + 1} was answered"
    message = f"the script ended before {what}" if too_early else ending.reason
    return Cause(
        site=site, phase="training", round=round_number, message=message,
        exit_code=code if code is not None and code >= 0 else None, signal=signal_name(code),
        peak_rss=ending.peak_rss, log_tail=tail,
        hint="the script must receive and send until is_running() is false" if too_early else "",
    )  # fmt: skip


def stalled(site: str, round_number: int | None, quiet: float) -> Cause:
    """Why a site is lost that made no progress for *quiet* seconds."""
    return Cause(site=site, phase="training", round=round_number, message=f"no progress for {quiet:.0f} s (stall)")
