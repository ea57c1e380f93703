"""What has been seen of a job, and what is to be said about it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from flpoc.cli.job_text import cause_lines, metrics_text, seconds_text
from flpoc.errors import FlpocError
from flpoc.formatting import Report

#: In a stream, something is said at least so often.
_HEARTBEAT = 5.0
#: To people, where nothing happens.
_SILENCE = 30.0
#: Names under which a metric is looked for.
_ALIASES = {
    "accuracy": ("accuracy", "acc", "val_acc", "val_accuracy", "test_acc", "test_accuracy"),
    "loss": ("loss", "train_loss", "val_loss", "test_loss"),
}


@attrs.define
class Pace:
    """When a monitor speaks: at changes of state at once, else not more often than asked."""

    interval: float
    _last: float = 0.0
    _status: str = ""
    _revision: str = ""

    def said(self, look: Look) -> None:
        self._last, self._status, self._revision = time.monotonic(), look.status, look.revision

    def may_speak(self, look: Look) -> bool:
        quiet = time.monotonic() - self._last
        if look.ended:
            return False  # the report says it
        if look.status != self._status:
            return True
        if look.revision != self._revision:
            return quiet >= self.interval
        return quiet >= max(self.interval, _HEARTBEAT)

    def patience(self) -> float:
        """After so many seconds it may be time to speak although nothing came."""
        return max(0.02, self._last + self.interval - time.monotonic()) if self._last else _HEARTBEAT


@attrs.define
class Look:
    """What has been seen of a job, and what was said of it."""

    wanted: tuple[str, ...] = ()
    target: str = "server"
    meta: Mapping[str, Any] = attrs.field(factory=dict)
    _began: float = attrs.field(factory=time.monotonic)
    _told_rounds: int = 0
    _told: str = ""
    _told_status: str = ""
    _spoke: float = 0.0
    _sites: dict[str, dict[str, Any]] = attrs.field(factory=dict)

    def see_sites(self, stats: Mapping[str, Any]) -> None:
        """What each site's script has logged last."""
        for site, groups in stats.items():
            if site != "server" and (said := {**groups["update"].get("metrics", {}), **groups["metrics"]}):
                self._sites[site] = said

    def see(self, meta: Mapping[str, Any]) -> None:
        self.meta = meta

    @property
    def status(self) -> str:
        return str(self.meta.get("status", ""))

    @property
    def ended(self) -> bool:
        return self.status.startswith("FINISHED:")

    @property
    def elapsed(self) -> float:
        return round(max(0.0, time.monotonic() - self._began), 3)

    @property
    def rounds(self) -> list[Mapping[str, Any]]:
        """The committed rounds; not what came before the first."""
        return [one for one in self.meta.get("rounds") or () if one["round"] >= 0]

    @property
    def rounds_done(self) -> int:
        """How many rounds are committed."""
        return len(self.rounds)

    @property
    def revision(self) -> str:
        """Something else whenever there is something new to say."""
        return f"{self.status} {self.rounds_done} {self.meta.get('waiting_for')}"

    def metrics(self) -> dict[str, Any]:
        """The newest metrics: round, accuracy, loss and what the user wants."""
        raw: dict[str, Any] = dict(self.rounds[-1]["metrics"]) if self.rounds else {}
        if self.ended and self.meta.get("metrics"):
            raw = dict(self.meta["metrics"])
        round_number: dict[str, Any] = {"round": self.rounds[-1]["round"] + 1} if self.rounds else {}
        return {**round_number, **self._named(raw)}

    def _named(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Accuracy and loss, whatever they are called, and what the user wants."""
        found: dict[str, Any] = {}
        for name, aliases in _ALIASES.items():
            key = next((one for one in aliases if one in raw), None)
            if key is not None:
                found[name] = raw[key]
        return {**found, **{key: raw[key] for key in self.wanted if key in raw}}

    def news(self) -> list[str]:
        """Lines about what happened since the last time; the end is left to :meth:`final`."""
        lines = [] if self._told else [self._introduction()]
        rounds, total = self.rounds, self.meta.get("rounds_total") or self.rounds_done
        for one in rounds[self._told_rounds :]:
            said = metrics_text(one["metrics"])
            lines.append(
                f"round {one['round'] + 1} of {total}" + (f"  {said}" if said and self.target != "client" else "")
            )
        changed = self.status != self._told_status or (self.status != "RUNNING" and self.revision != self._told)
        if not self.ended and (changed or (not lines and time.monotonic() - self._spoke >= _SILENCE)):
            lines.append(self.line())
        if self.target != "server" and len(rounds) > self._told_rounds:
            lines += [
                f"  {site}  {metrics_text(self._named(said))}".rstrip() for site, said in sorted(self._sites.items())
            ]
        if lines:
            self._spoke = time.monotonic()
        self._told_rounds, self._told, self._told_status = len(rounds), self.revision, self.status
        return lines

    def _introduction(self) -> str:
        about = self.meta
        return f"Job {about['job_id']} ({about['name']}) in study {about['study']}, submitted {about['submit_time']}"

    def line(self) -> str:
        """One line about where the job is."""
        parts = [self.status, str(self.meta.get("waiting_for") or ""), f"watched for {seconds_text(self.elapsed)}"]
        return ", ".join(part for part in parts if part)

    def title(self) -> str:
        """A few words for a progress bar."""
        if self.status != "RUNNING" or not self.rounds:
            return str(self.meta.get("waiting_for") or self.status)
        said = {key: value for key, value in self.metrics().items() if key != "round"}
        return f"round {self.rounds_done} of {self.meta.get('rounds_total')}  {metrics_text(said)}".rstrip()

    def job_meta(self) -> dict[str, Any]:
        keys = (
            "status", "submit_time", "start_time", "duration_s", "study",
            "submitter_name", "submitter_org", "submitter_role", "waiting_for", "rounds_total", "rounds_committed",
        )  # fmt: skip
        return {"job_name": self.meta.get("name"), **{key: self.meta.get(key) for key in keys}}

    def record(self) -> dict[str, Any]:
        """One step of a stream."""
        return {
            "event": "progress",
            "job_id": self.meta["job_id"],
            "status": normalised(self.status),
            "job_status": self.status,
            "terminal": False,
            "elapsed_s": self.elapsed,
            "job_meta": self.job_meta(),
            "metrics": self.metrics(),
            **({"site_metrics": dict(self._sites)} if self.target != "server" else {}),
        }

    def data(self) -> dict[str, Any]:
        """What programs are told in the end."""
        return {
            "job_id": self.meta.get("job_id"),
            "status": self.status,
            "job_status": self.status,
            "duration_s": self.meta.get("duration_s"),
            "elapsed_s": self.elapsed,
            "job_meta": self.job_meta(),
            "metrics": self.metrics(),
            "last_stats": self.metrics() or None,
            **({"site_metrics": dict(self._sites)} if self.target != "server" else {}),
            "stats_raw": {"metrics": self.meta.get("metrics"), "rounds": self.rounds},
            "sha256": self.meta.get("sha256") or None,
            "cause": self.meta.get("cause"),
        }

    def final(self, rest: Sequence[str] = (), *, stream: bool = False) -> Report:
        """The report about a job that has ended; a *stream* says its states in short, as its steps do."""
        from flpoc.jobs.states import JobState, cause_of, outcome

        code, exit_status = outcome(JobState(self.status), cause_of(self.meta), bool(self.meta.get("partial_allowed")))
        duration = self.meta.get("duration_s")
        took = f" after {seconds_text(duration)}" if duration is not None else ""
        newest = {key: value for key, value in self.metrics().items() if key != "round"}
        said = metrics_text(self.meta.get("metrics") or newest)
        last = f"Job {self.meta['job_id']} ({self.meta['name']}) in study {self.meta['study']}: {self.status}{took}"
        text = [last + (f"  {said}" if said else ""), *cause_lines(self.meta)]
        hint = "" if not code else f"flpoc job logs {self.meta['job_id']} --site all"
        data = self.data()
        if stream:
            data["status"] = normalised(self.status)
        return Report(data=data, text=[*rest, *text], exit_status=exit_status, code=code, hint=hint)

    def too_late(self, error: FlpocError, timeout: float) -> Report:
        """The report about a job that goes on when the user has waited long enough."""
        data = {**self.data(), "status": "TIMEOUT", "timeout_seconds": timeout, "elapsed_s": self.elapsed}
        return Report(data=data, text=(error.message,), exit_status=error.exit_status, code=error.code, hint=error.hint)


def normalised(status: str) -> str:
    """``FINISHED:COMPLETED`` is ``COMPLETED``."""
    from flpoc.jobs.states import JobState

    try:
        return JobState(status).name
    except ValueError:
        return status
