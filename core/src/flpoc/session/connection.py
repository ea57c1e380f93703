"""The connection that a session is made of: opened when first used, its failures said in plain words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from flpoc.errors import UsageError, from_code

if TYPE_CHECKING:
    from flpoc.provision.kits import Kit

#: A call that the server answers at once may take so long, whatever the network does.
CALL_SECONDS = 60.0
#: So long a watch waits for a server that went away to come back.
GRACE_SECONDS = 30.0


class Connection:
    """The connection of a user to the server of a project, opened by the first call.

    Args:
        kit: The user's startup kit, loaded or its folder.
        study: The study that jobs are looked for in and submitted to.
        timeout: How long to try to reach the server, in seconds.
        grace: How long a watch waits for a server that went away, in seconds.
    """

    def __init__(
        self, kit: Path | Kit, *, study: str = "default", timeout: float = 5.0, grace: float = GRACE_SECONDS
    ) -> None:
        from flpoc.provision.kits import read_user_kit

        self.study = check_study(study)
        self.kit = read_user_kit(Path(kit)) if isinstance(kit, (str, Path)) else kit
        self._timeout = timeout
        self.grace = max(grace, timeout)
        self._open_channel: Any = None
        self._reached = False
        self._closed = False

    @classmethod
    def open(
        cls, kit: Path | Kit, *, study: str = "default", timeout: float = 5.0, grace: float = GRACE_SECONDS
    ) -> Self:
        """Open a session with a kit; the server is first asked by the first call.

        Raises:
            KitError: The kit cannot be used.
        """
        return cls(kit, study=study, timeout=timeout, grace=grace)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection, and every call that still runs; twice is fine."""
        self._closed = True
        if self._open_channel is not None:
            self._open_channel.close()

    # -- calls

    def connect(self) -> None:
        """Make sure that the server can be reached and lets this user in.

        Raises:
            ConnectionFailed: Says why the server cannot be reached.
            AuthError: The server does not accept the kit.
        """
        import grpc

        from flpoc.wire.asks import Ask
        from flpoc.wire.codec import encode

        if self._reached and not self._closed:
            return
        # some of the time is kept for finding out why it failed
        seconds = self._timeout - min(1.0, self._timeout / 4)
        try:
            answer_of(self.unary("Status", encode(Ask()), seconds))
        except grpc.RpcError as error:
            from flpoc.session.channel import why_unreachable

            raise why_unreachable(self.kit, error, self._timeout) from error
        self._reached = True

    def await_first(self, timeout: float) -> None:
        """Wait for a server that is being started."""
        import grpc

        try:
            self.await_server(timeout)
        except grpc.RpcError as error:
            from flpoc.session.channel import why_unreachable

            raise why_unreachable(self.kit, error, self._timeout) from error
        self._reached = True

    def ask(self, name: str, ask: Any, *, seconds: float | None = CALL_SECONDS) -> Any:
        """Call a procedure that answers once; gives what it says.

        Raises:
            FlpocError: The server says why not, or cannot be reached.
        """
        import grpc

        from flpoc.wire.codec import encode

        self.connect()
        try:
            return answer_of(self.unary(name, encode(ask), seconds))
        except grpc.RpcError as error:
            raise self.lost(error) from error

    def unary(self, name: str, request: bytes, seconds: float | None, *, wait: bool = False) -> bytes:
        """Call a procedure that answers once; gives the answer as it came."""
        call = self._channel.unary_unary(_path(name))
        return bytes(call(request, timeout=seconds, wait_for_ready=wait))

    def stream(self, name: str, ask: Any, *, seconds: float | None = None) -> Any:
        """Call a procedure that answers with a stream; gives the running call."""
        from flpoc.wire.codec import encode

        return self._channel.unary_stream(_path(name))(encode(ask), timeout=seconds)

    def send(self, name: str, requests: Iterator[bytes]) -> Any:
        """Call a procedure that takes a stream of messages; gives its answer."""
        import grpc

        self.connect()
        try:
            return answer_of(self._channel.stream_unary(_path(name))(requests))
        except grpc.RpcError as error:
            raise self.lost(error) from error

    def await_server(self, seconds: float) -> None:
        """Wait until a server that went away answers again; raises gRPC's error if it does not in time."""
        from flpoc.wire.asks import Ask
        from flpoc.wire.codec import encode

        answer_of(self.unary("Status", encode(Ask()), seconds, wait=True))

    def about(self, job: str) -> Any:
        """The request about a job of this session's study."""
        from flpoc.wire.asks import AboutJob

        return AboutJob(check_job_id(job), self.study)

    @property
    def _channel(self) -> Any:
        if self._closed:
            raise UsageError("the session is closed", hint="open a new one")
        if self._open_channel is None:
            from flpoc.session.channel import open_channel

            self._open_channel = open_channel(self.kit, self._timeout)
        return self._open_channel

    def lost(self, error: Any) -> Exception:
        """The error for a call that gRPC broke off."""
        from flpoc.session.channel import lost

        return lost(self.kit, error)


def check_job_id(job: str) -> str:
    """Refuse what cannot be the id of a job, before anybody is asked."""
    from flpoc.jobs.names import JOB_ID

    if not isinstance(job, str) or not JOB_ID.match(job):
        shown = repr(job) if len(repr(job)) <= 80 else repr(job)[:77] + "..."
        raise UsageError(f"{shown} is not a job id", hint="ids have letters, digits and -; `flpoc job list` shows them")
    return job


def check_study(study: str) -> str:
    """Refuse what cannot be the name of a study."""
    from flpoc.jobs.names import STUDY_NAME

    if not STUDY_NAME.match(study):
        raise UsageError(f"{study[:80]!r} is not the name of a study", hint="lower case letters, digits, _ and -")
    return study


def _path(name: str) -> str:
    from flpoc.wire.options import USER_SERVICE

    return f"/{USER_SERVICE}/{name}"


def answer_of(data: bytes) -> Any:
    """What a reply says; raises the error that it carries."""
    from flpoc.wire.asks import REPLIES

    reply = REPLIES.decode(data)
    if reply.code:
        raise from_code(reply.code, reply.message, reply.hint, reply.data)
    return reply.data
