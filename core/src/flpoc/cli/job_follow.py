"""Reading the news of a job beside what the command does with them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flpoc.session import Session

_AWAY = object()


class Follower:
    """Reads a job's news in a thread, so that the reader can also notice that none came.

    Args:
        session: The session to read with.
        job_id: The job.
        timeout: Seconds after which reading ends with a DeadlineError; 0 for no limit.
    """

    def __init__(self, session: Session, job_id: str, timeout: float) -> None:
        self._session = session
        self._job_id = job_id
        self._timeout = timeout
        self._news: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, name="follow", daemon=True)
        self._over = False
        self.away = False

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._over:
            self._session.close()  # closing the channel ends the call that the thread waits in
        self._thread.join(5.0)

    def metas(self, patience: Callable[[], float] | None = None) -> Iterator[Mapping[str, Any] | None]:
        """Give the job's news; None when the server goes away, or none came for *patience* seconds."""
        while True:
            try:
                found = self._news.get(timeout=patience() if patience is not None else None)
            except queue.Empty:
                self.away = False
                yield None
                continue
            self._over = found is None or isinstance(found, BaseException)
            if found is None:
                return
            if isinstance(found, BaseException):
                raise found
            self.away = found is _AWAY
            yield None if self.away else found

    def _read(self) -> None:
        def away() -> None:
            self._news.put(_AWAY)

        try:
            for meta in self._session.watch_job(self._job_id, timeout=self._timeout, away=away):
                self._news.put(meta)
        except BaseException as error:  # noqa: BLE001 - raised again where the news are read
            self._news.put(error)
        else:
            self._news.put(None)
