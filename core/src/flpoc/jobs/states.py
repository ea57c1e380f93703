"""The states of a job, which follows which, and why a job failed."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Any

import attrs

from flpoc.errors import EXIT_STATUS, JobError

#: Lines that a cause takes on a screen, at most.
MAX_LINES = 10
_MAX_WIDTH = 300
_MOST_TEXT = 4000
_PLACE = re.compile(r'File "[^"]*/code/')
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class JobState(enum.Enum):
    """Where a job is; waiting for sites or resources is not a state of its own."""

    SUBMITTED = "SUBMITTED"
    DISPATCHED = "DISPATCHED"
    RUNNING = "RUNNING"
    COMPLETED = "FINISHED:COMPLETED"
    COMPLETED_PARTIAL = "FINISHED:COMPLETED_PARTIAL"
    ABORTED = "FINISHED:ABORTED"
    FAILED = "FINISHED:FAILED"
    CAN_NOT_SCHEDULE = "FINISHED:CAN_NOT_SCHEDULE"

    @property
    def terminal(self) -> bool:
        """Whether a job in this state has ended."""
        return self in _TERMINAL


_TERMINAL = frozenset(
    {
        JobState.COMPLETED,
        JobState.COMPLETED_PARTIAL,
        JobState.ABORTED,
        JobState.FAILED,
        JobState.CAN_NOT_SCHEDULE,
    }
)

#: What may follow a state. Back to SUBMITTED leads ``job resume``, and a start for which sites went missing.
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.SUBMITTED: frozenset(
        {JobState.DISPATCHED, JobState.ABORTED, JobState.FAILED, JobState.CAN_NOT_SCHEDULE},
    ),
    JobState.DISPATCHED: frozenset(
        {JobState.SUBMITTED, JobState.RUNNING, JobState.ABORTED, JobState.FAILED, JobState.CAN_NOT_SCHEDULE},
    ),
    JobState.RUNNING: frozenset(
        {JobState.COMPLETED, JobState.COMPLETED_PARTIAL, JobState.ABORTED, JobState.FAILED},
    ),
    JobState.COMPLETED: frozenset(),
    JobState.COMPLETED_PARTIAL: frozenset(),
    JobState.ABORTED: frozenset({JobState.SUBMITTED}),
    JobState.FAILED: frozenset({JobState.SUBMITTED}),
    JobState.CAN_NOT_SCHEDULE: frozenset(),
}


def check_transition(old: JobState, new: JobState) -> None:
    """Refuse a change of state that is not in :data:`TRANSITIONS`.

    Raises:
        JobError: JOB_NOT_RUNNING if the job has ended, else JOB_INVALID.
    """
    if new in TRANSITIONS[old]:
        return
    if old.terminal:
        raise JobError(f"the job is {old.value} already", code="JOB_NOT_RUNNING", data={"status": old.value})
    raise JobError(f"a job that is {old.value} cannot become {new.value}", data={"status": old.value})


@attrs.frozen
class Cause:
    """The first failure of a job: everything after it is a consequence.

    Attributes:
        site: Where; ``server`` for the controller.
        phase: What was being done: ``launch``, ``join``, ``train``, ``aggregate``, ...
        round: In which round, counted from 0; None outside a round.
        exception: Class of the exception, or empty.
        message: What it said.
        file: File of the job's code, or of a filter, where it was raised; or empty.
        line: Line in that file, or 0.
        exit_code: Of the process, if it ended by itself and its code is known.
        signal: Name of the signal that ended the process (``SIGKILL``), or empty.
        peak_rss: Bytes of main memory the process took at most, if known.
        log_tail: The last lines of its log.
        hint: What to do about it, or empty.
    """

    site: str
    phase: str = ""
    round: int | None = None
    exception: str = ""
    message: str = ""
    file: str = ""
    line: int = 0
    exit_code: int | None = None
    signal: str = ""
    peak_rss: int | None = None
    log_tail: tuple[str, ...] = ()
    hint: str = ""

    @property
    def by_own_code(self) -> bool:
        """Whether the job's own code failed, or its process ended when it should not."""
        return self.phase != "filtering" and bool(self.file or self.signal or self.exit_code)

    def cut(self) -> Cause:
        """The same, without what nobody reads: what a script says may be of any length."""
        texts = ("phase", "exception", "message", "file", "signal", "hint")
        return attrs.evolve(
            self,
            **{key: getattr(self, key)[:_MOST_TEXT] for key in texts},
            log_tail=tuple(line[:_MAX_WIDTH] for line in self.log_tail[-40:]),
        )

    def lines(self) -> list[str]:
        """At most ten lines for people, the most important first and the hint last."""
        where = f", round {self.round + 1}" if self.round is not None else ""
        phase = f" ({self.phase}{where})" if self.phase else where
        said = ": ".join(part for part in (self.exception, self.message) if part)
        first = [f"{self.site or 'job'}{phase}: {said or self._ending() or 'failed'}"]
        if self.file:
            first.append(f"  at {self.file}:{self.line}" if self.line else f"  at {self.file}")
        if said and (ending := self._ending()):
            first.append(f"  process {ending}")
        last = [f"Hint: {hint}"] if (hint := self.hint or self._signal_hint()) else []
        # where the job's code lies is another place at each site, and at none that of its author
        tail = ["  | " + _PLACE.sub('File "', line) for line in self.log_tail if line.strip()]
        room = MAX_LINES - len(first) - len(last)
        return [_printable(line) for line in (*first, *tail[-room:], *last)]

    def _ending(self) -> str:
        """How the process ended, in words."""
        peak = f" (peak RSS {_bytes(self.peak_rss)})" if self.peak_rss else ""
        if self.signal:
            return f"{_SIGNALS.get(self.signal, ('ended by ' + self.signal, ''))[0]}{peak}"
        if self.exit_code is not None:
            return f"ended with exit code {self.exit_code}"
        return ""

    def _signal_hint(self) -> str:
        return _SIGNALS.get(self.signal, ("", ""))[1]


def cause_of(meta: Mapping[str, Any]) -> Cause | None:
    """The first failure of a job, from everything about it; None if it has none."""
    from flpoc.settings import structure

    return structure(dict(meta["cause"]), Cause) if meta.get("cause") else None


_SIGNALS = {
    "SIGKILL": ("killed, probably out of memory", "give it more memory (needs.memory_gib), or a smaller batch"),
    "SIGTERM": ("asked to end (SIGTERM)", "somebody or the system ended it: look at the log of the site"),
    "SIGINT": ("interrupted (SIGINT)", ""),
    "SIGSEGV": ("crashed in native code (SIGSEGV)", "look for a library that does not fit the others"),
    "SIGABRT": ("gave up in native code (SIGABRT)", "the last lines of its log say why"),
    "SIGBUS": ("crashed on memory that is not there (SIGBUS)", "look for a full disk or a file that was cut"),
    "SIGILL": ("used an instruction this processor lacks (SIGILL)", "install libraries built for this processor"),
    "SIGFPE": ("divided by zero in native code (SIGFPE)", ""),
    "SIGXCPU": ("used up its processor time (SIGXCPU)", ""),
    "SIGXFSZ": ("wrote a file larger than allowed (SIGXFSZ)", ""),
}


def outcome(state: JobState, cause: Cause | None, partial_allowed: bool) -> tuple[str, int]:
    """The code and exit status that a command which waited for a job ends with.

    Returns:
        An empty code for a success; JOB_NOT_DONE for a job that has not ended.
    """
    if state is JobState.COMPLETED or (state is JobState.COMPLETED_PARTIAL and partial_allowed):
        return "", 0
    if state is JobState.COMPLETED_PARTIAL:
        code = "JOB_PARTIAL"
    elif state is JobState.ABORTED:
        code = "JOB_ABORTED"
    elif state is JobState.FAILED and cause is not None and cause.by_own_code:
        code = "JOB_FINISHED_EXCEPTION"
    else:
        code = "JOB_FAILED" if state.terminal else "JOB_NOT_DONE"
    return code, EXIT_STATUS.get(code, 1)


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _printable(line: str) -> str:
    """One line that cannot move the cursor, colour the screen or hide what follows."""
    line = " ".join(line.splitlines())
    clean = _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", line).replace("\t", "    ")
    return clean if len(clean) <= _MAX_WIDTH else clean[: _MAX_WIDTH - 3] + "..."
