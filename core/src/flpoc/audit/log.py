"""The audit log of a running server or site: one thread writes, nobody waits for a disk in the loop's thread."""

from __future__ import annotations

import asyncio
import errno
import logging
import queue
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import attrs

from flpoc.audit.chain import FILE_BYTES, Chain
from flpoc.audit.files import FOLDER
from flpoc.audit.records import Decision
from flpoc.errors import FlpocError, ResourceError, ServiceError

#: A record that need not be durable at once is, after so many seconds.
SYNC_AFTER = 1.0
#: Records that are written together.
_MOST_AT_ONCE = 64

log = logging.getLogger("flpoc.audit")


@attrs.frozen(eq=False)
class _Wish:
    decision: Decision
    durable: bool
    done: Future[None] = attrs.field(factory=Future)


class AuditLog:
    """Writes decisions down before they take effect."""

    def __init__(self, state: Path, *, file_bytes: int = FILE_BYTES) -> None:
        """Open the log of the state folder *state*, or begin one (blocking).

        Raises:
            IntegrityError: This is not the whole log.
            ServiceError: It cannot be read or written.
        """
        try:
            self._chain = Chain(state / FOLDER, file_bytes=file_bytes)
        except OSError as error:
            raise _refusal(error) from None
        self._wishes: queue.SimpleQueue[_Wish | None] = queue.SimpleQueue()
        self._sync_by: float | None = None
        self._missed = 0
        self._missed_since = ""
        self._closed = False
        self._closing = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="audit", daemon=True)
        self._thread.start()

    async def write(self, decision: Decision, *, durable: bool = False) -> None:
        """Write a decision down; it has survived the death of this process once this returns.

        With *durable* it has survived power loss, too; otherwise it will a second later.

        Raises:
            ResourceError: The disk is full; the decision must not take effect.
            ServiceError: It cannot be written for another reason, or the log is closed.
        """
        wish = _Wish(decision, durable)
        with self._closing:  # nothing is asked for behind the end
            if self._closed:
                raise ServiceError("the audit log is closed: the process is stopping")
            self._wishes.put(wish)
        await asyncio.wrap_future(wish.done)

    def close(self) -> None:
        """Write what waits, then close (blocking, shortly)."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._wishes.put(None)
        self._thread.join()

    # -- in the thread

    def _work(self) -> None:
        going = True
        while going:
            wishes = self._gather()
            going = None not in wishes
            self._write([one for one in wishes if one is not None])
            if self._sync_by is not None and (not going or time.monotonic() >= self._sync_by):
                self._sync([])
        self._chain.close()

    def _gather(self) -> list[_Wish | None]:
        """What is wanted now; nothing, when it is time to sync."""
        left = None if self._sync_by is None else max(0.0, self._sync_by - time.monotonic())
        found: list[_Wish | None] = []
        try:
            found.append(self._wishes.get(timeout=left))
            while len(found) < _MOST_AT_ONCE:
                found.append(self._wishes.get_nowait())
        except queue.Empty:
            pass
        return found

    def _write(self, wishes: list[_Wish]) -> None:
        wishes = [one for one in wishes if one.done.set_running_or_notify_cancel()]
        if not wishes:
            return
        try:
            if self._missed:
                self._chain.note_missed(self._missed, self._missed_since)
                self._missed = 0
            self._chain.append([one.decision for one in wishes])
        except Exception as error:  # noqa: BLE001 - whoever asked is told; a thread that ends would let all others wait
            self._miss(wishes, error)
            return
        if self._sync_by is None:
            self._sync_by = time.monotonic() + SYNC_AFTER
        for one in wishes:
            if not one.durable:
                one.done.set_result(None)
        if durable := [one for one in wishes if one.durable]:
            self._sync(durable)

    def _miss(self, wishes: list[_Wish], error: Exception) -> None:
        if not self._missed:
            log.error("decisions cannot be written down: %s", error)
            self._missed_since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._missed += len(wishes)
        for one in wishes:
            one.done.set_exception(_refusal(error))

    def _sync(self, wishes: list[_Wish]) -> None:
        try:
            self._chain.sync()
        except OSError as error:
            log.error("decisions may not survive a power failure: %s", error)
            self._sync_by = time.monotonic() + SYNC_AFTER
            for one in wishes:
                one.done.set_exception(_refusal(error))
            return
        self._sync_by = None
        for one in wishes:
            one.done.set_result(None)


def _refusal(error: Exception) -> FlpocError:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(
            "no space left for the audit log: nothing is allowed that cannot be written down",
            code="DISK_FULL",
            hint="free some space there",
        )
    what = getattr(error, "strerror", None) or str(error)
    return ServiceError(f"the audit log cannot be written: {what}", hint="see the log of the service")
