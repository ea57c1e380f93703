"""What leaves a site for one job: taken from the script, through the gate if there are filters, into the outbox.

What a script sent waits in ``raw/`` until what its filters made of it is in
``outbox/``, safe from loss of power; only what is in the outbox is ever sent.
Both folders are found again by a later agent, which goes on from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import attrs

from flpoc.cancelling import in_thread
from flpoc.errors import FlpocError
from flpoc.filtering import FilterSpec
from flpoc.jobs.attempts import Attempt
from flpoc.jobs.states import Cause
from flpoc.models.handover import sync, take
from flpoc.site.files import Outbox, SiteFiles
from flpoc.site.gate_host import PHASE, DiskFullError, GateHost, RefusedError
from flpoc.site.gate_messages import Passed
from flpoc.site.keepsakes import Keepsakes
from flpoc.wire.messages import Announce
from flpoc.wire.trainer_messages import Submit

log = logging.getLogger("flpoc.site")

#: Seconds after which something is tried again for which the disk was too full.
AGAIN_LATER = 2.0
#: Rounds that are answered and not committed yet: more than a job that goes on as it should ever has.
MOST_OPEN = 8


@attrs.frozen
class DepartureEvents:
    """What the owner of departures wants to hear.

    Attributes:
        ready: An update is in the outbox.
        failed: The site's part in the job is over, and why.
    """

    ready: Callable[[Announce], None]
    failed: Callable[[Cause], None]


class Departures:
    """The updates of one job on their way out."""

    def __init__(
        self, files: SiteFiles, *, job: str, run: int, site: str, policy: tuple[FilterSpec, ...],
        share_metrics: bool, events: DepartureEvents,
    ) -> None:  # fmt: skip
        #: What updates have to pass; None if the job has no filters and the site wants none.
        self.gate: GateHost | None = None
        #: What may leave.
        self.outbox = Outbox(files.folder / "outbox", policy)
        self._raw = Outbox(files.folder / "raw")
        #: What the script keeps.
        self.keepsakes = Keepsakes(files.kept)
        self._job, self._run, self._site = job, run, site
        self._files = files
        self._events = events
        self._share_metrics = share_metrics
        self._at_work: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._begun = False
        self._over = asyncio.Event()

    def begin(self) -> None:
        """The job is known, and with it the gate; what a former agent left goes on. Once is enough."""
        for entry in () if self._begun else self._raw.all():
            self._filter(entry)
        self._begun = True

    # -- in

    async def take(self, attempt: Attempt, message: Submit) -> bool:
        """Take the script's answer; says whether it is safe here."""
        async with self._turn:  # a script that connects again asks again
            if self._over.is_set():
                return False
            if self.has(message.round):
                return True
            entry = Announce(
                job=self._job, run=self._run, round=message.round, kind=message.kind, attempt=attempt.number,
                size=message.size, checksum=message.checksum, weight=message.weight, params_type=message.params_type,
                metrics=message.metrics if self._share_metrics else {},
                meta=message.meta if self._share_metrics else {}, evaluates=message.evaluates, submits=message.submits,
            )  # fmt: skip
            box = self.outbox if self.gate is None else self._raw
            if len(self.outbox.all()) + len(self._raw.all()) >= MOST_OPEN:
                text = f"answers to {MOST_OPEN} rounds wait already; one after the other is asked for"
                self._events.failed(Cause(site=self._site, phase="sending", round=entry.round, message=text))
                return False
            try:
                if message.state:
                    await in_thread(self.keepsakes.take, attempt, message.round)
                while not await self._kept(box, entry, Path(attempt.folder), message.file):
                    log.warning("job %s: round %d: the disk is full; the script waits", self._job, entry.round + 1)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._over.wait(), AGAIN_LATER)
                        return False
            except (FlpocError, OSError) as error:
                text = error.message if isinstance(error, FlpocError) else str(error)
                self._events.failed(Cause(site=self._site, phase="sending", round=message.round, message=text))
                return False
            box.add(entry)
        if self._over.is_set():
            return True  # a later agent goes on with it
        if self.gate is None:
            self._events.ready(entry)
        else:
            self._filter(entry)
        return True

    async def _kept(self, box: Outbox, entry: Announce, folder: Path, name: str) -> bool:
        """Put the script's answer into a box; false if there is no room for it now, as the script waits anyway."""
        try:
            await in_thread(_put, box, entry, folder, name)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return False
        return True

    def has(self, round_number: int) -> bool:
        """Whether this round is answered here, filtered or not yet."""
        return self.outbox.get(round_number) is not None or self._raw.get(round_number) is not None

    def unfit(self, round_number: int) -> Cause | None:
        """Why the answer of this round may not leave any more, if there was one."""
        if round_number not in self.outbox.outdated:
            return None
        return self._changed(round_number)

    def _changed(self, round_number: int) -> Cause:
        message = "the site's filters were changed after this round was answered"
        hint = "`flpoc job resume` starts the job again, from its last committed round"
        return Cause(site=self._site, phase=PHASE, round=round_number, message=message, hint=hint)

    # -- through the gate

    def _filter(self, entry: Announce) -> None:
        self.drop_before(entry.round, -1)  # a script that answers a round has been told that those before are closed
        task = asyncio.create_task(self._pass(entry), name=f"filters of job {entry.job}")
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)

    async def _pass(self, entry: Announce) -> None:
        try:
            await self._into_outbox(entry)
        except DiskFullError as error:
            self._later(entry, str(error))
        except RefusedError as error:
            self._events.failed(error.cause)
        except (FlpocError, OSError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._later(entry, "the disk is full")
                return
            message = error.message if isinstance(error, FlpocError) else str(error)
            self._events.failed(Cause(site=self._site, phase=PHASE, round=entry.round, message=message))
        except Exception as error:
            log.exception("job %s: round %d cannot be filtered", self._job, entry.round + 1)
            message = f"{type(error).__name__}: {error}"
            self._events.failed(Cause(site=self._site, phase=PHASE, round=entry.round, message=message))

    def _later(self, entry: Announce, why: str) -> None:
        log.warning("job %s: round %d: %s; tried again in %g s", self._job, entry.round + 1, why, AGAIN_LATER)
        asyncio.get_running_loop().call_later(AGAIN_LATER, self._again, entry)

    def _again(self, entry: Announce) -> None:
        if self._raw.get(entry.round) is entry and self.gate is not None and not self._over.is_set():
            self._filter(entry)

    async def _into_outbox(self, entry: Announce) -> None:
        if (ready := self.outbox.get(entry.round)) is None:
            if self.gate is None:
                raise RefusedError(self._changed(entry.round))
            work, passed = await self.gate.apply(entry, self._raw.path(entry), self._received(entry.round))
            ready = attrs.evolve(entry, size=passed.size, checksum=passed.checksum)
            await in_thread(_publish, self.outbox, ready, work, passed)
            self.outbox.add(ready)
        self._raw.drop(entry)
        self._events.ready(ready)

    def _received(self, round_number: int) -> Path | None:
        """The model that the script was given in this round; it is kept as long as the round is open."""
        return next(iter(sorted((self._files.folder / "in").glob(f"{round_number}.*.safetensors"))), None)

    # -- ends

    def drop_before(self, round_number: int, committed: int) -> None:
        """Forget what nobody wants any more: committed, or of a round before *round_number*; a filter is stopped."""
        self.outbox.drop_committed(committed)
        for entry in self._raw.all():
            if entry.round <= committed or entry.round < round_number:
                log.info("job %s: round %d was closed while its update was filtered", self._job, entry.round + 1)
                for task in self._at_work:  # a trainer answers one round after the other: this is the only one
                    task.cancel()
                self._raw.drop(entry)

    async def stop(self) -> None:
        """End the gate, and take nothing more; what is not in the outbox yet is filtered by a later agent."""
        self._over.set()
        for task in self._at_work:
            task.cancel()
        await asyncio.gather(*self._at_work, return_exceptions=True)
        async with self._turn:
            pass  # what is being taken has its files by now
        if self.gate is not None:
            await self.gate.stop()


def _put(box: Outbox, entry: Announce, folder: Path, name: str) -> None:
    box.note(entry)
    take(folder, name, entry.size, box.path(entry))


def _publish(box: Outbox, entry: Announce, work: Path, passed: Passed) -> None:
    """Put a filtered update where it is sent from; it and what is said of it survive loss of power from now on."""
    _put(box, entry, work, passed.file)
    for path in (box.path(entry), box.path(entry).with_suffix(".json")):
        sync(path)
    shutil.rmtree(work, ignore_errors=True)
