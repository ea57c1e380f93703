"""The local channel and a job process's way back to its owner."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flpoc.errors import IntegrityError
from flpoc.wire.codec import MAX_MESSAGE_BYTES
from flpoc.wire.local import HELLO_BYTES, SOCKET_NAME, Link, Wire, connect, frame, listen
from flpoc.wire.owner import FENCED_EXIT, Owner
from flpoc.wire.trainer_messages import FROM_TRAINER, TO_TRAINER, Beat, LocalHello, Taken


def received(sent: bytes) -> tuple[list[Any], BaseException | None]:
    """What a blocking end makes of bytes that another sends."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)
        wire, found = Wire(ours, FROM_TRAINER), []
        try:
            while (message := wire.receive()) is not None:
                found.append(message)
        except IntegrityError as error:
            return found, error
    return found, None


def test_messages_keep_their_borders() -> None:
    beats = [Beat(float(number), number) for number in range(100)]
    assert received(b"".join(map(frame, beats))) == (beats, None)


@pytest.mark.parametrize("cut", range(1, len(frame(Beat(1.0, 1)))))
def test_half_a_message_at_the_end_is_no_message(cut: int) -> None:
    whole = frame(Beat(1.0, 1))
    assert received(whole + whole[:cut]) == ([Beat(1.0, 1)], None)


def test_a_length_that_is_too_large_is_refused_before_anything_is_set_aside() -> None:
    _, error = received(struct.pack(">I", MAX_MESSAGE_BYTES + 1))
    assert "at most" in str(error)


@pytest.mark.row("W2")
def test_the_owner_too_refuses_a_length_that_is_too_large(tmp_path: Path) -> None:
    async def main() -> None:
        said: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            link = Link(reader, writer, FROM_TRAINER)
            try:
                await link.receive()
            except IntegrityError as error:
                said.set_result(error)
            link.close()

        server = await listen(tmp_path / "s", serve)
        with connect(tmp_path / "s" / SOCKET_NAME) as sock:
            sock.sendall(b"\xff\xff\xff\xff")
            assert "at most" in str(await asyncio.wait_for(said, 60))
        server.close()
        await server.wait_closed()

    asyncio.run(main())


@pytest.mark.parametrize(
    "sent",
    [b"\xff\xff\xff\xff", struct.pack(">I", HELLO_BYTES + 1), struct.pack(">I", 3) + b"abc"],
    ids=["4G", "long", "text"],
)
def test_whoever_connects_and_says_nothing_that_is_a_hello_is_nobody(tmp_path: Path, sent: bytes) -> None:
    """Every process of this user can connect: it must not be able to fail the job, or to fill its owner's memory."""

    async def main() -> None:
        said: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            link = Link(reader, writer, FROM_TRAINER)
            said.set_result(await link.hello())
            link.close()

        server = await listen(tmp_path / "s", serve)
        with connect(tmp_path / "s" / SOCKET_NAME) as sock:
            sock.sendall(sent)
            assert await asyncio.wait_for(said, 60) is None
        server.close()
        await server.wait_closed()

    asyncio.run(main())


def test_listening_that_is_given_up_leaves_the_next_listener_able_to_hear(tmp_path: Path) -> None:
    """A job may be aborted in this very moment; the number of its socket is then that of the next job's."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"heard")
        writer.close()

    async def main() -> bytes:
        given_up = asyncio.create_task(listen(tmp_path / "a", accept))
        await asyncio.sleep(0)  # it listens, and waits for the loop's next turn
        assert (tmp_path / "a" / SOCKET_NAME).exists()
        given_up.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await given_up
        server = await listen(tmp_path / "b", accept)
        with connect(tmp_path / "b" / SOCKET_NAME) as client:
            client.settimeout(60)
            heard = await asyncio.to_thread(client.recv, 5)
        server.close()
        return heard

    assert asyncio.run(main()) == b"heard"


def test_the_length_of_the_path_does_not_matter_and_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100) / ("y" * 100)

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            link = Link(reader, writer, FROM_TRAINER)
            async for message in link.messages():
                link.send(Taken(message.calls))
            link.close()

        for number in range(3):  # each finds the file of the one before
            server = await listen(folder, serve)
            with connect(folder / SOCKET_NAME) as sock:
                wire = Wire(sock, TO_TRAINER)
                wire.send(Beat(0.0, number))
                assert await asyncio.to_thread(wire.receive) == Taken(number)
            server.close()
            await server.wait_closed()

    asyncio.run(main())
    assert folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(OSError, match="refused"):
        connect(folder / SOCKET_NAME)


class Host:
    """A real listener in a thread; its connections are broken when a test wants it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.got: list[Any] = []
        self.news = threading.Condition()
        self.links: list[Link] = []
        self.answer: Callable[[Any], Any] = lambda message: None
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.start()

    def start(self) -> None:
        self.server = asyncio.run_coroutine_threadsafe(listen(self.folder, self._serve), self.loop).result(60)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(reader, writer, FROM_TRAINER)
        self.links.append(link)
        async for message in link.messages():
            if not (isinstance(message, Beat) and message.calls == 0):
                with self.news:
                    self.got.append(message)
                    self.news.notify_all()
            if (answer := self.answer(message)) is not None:
                link.send(answer)
        link.close()

    def wait(self, there: Callable[[], bool]) -> None:
        with self.news:
            assert self.news.wait_for(there, 60), self.got

    def cut(self) -> None:
        def close() -> None:
            for link in self.links:
                link.close()
            self.links.clear()

        self.loop.call_soon_threadsafe(close)

    def stop(self) -> None:
        self.cut()

        async def end() -> None:
            self.server.close()
            while len(asyncio.all_tasks()) > 1:
                await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()}, timeout=1)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(60)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "token").write_bytes(b"secret")
    monkeypatch.setenv("FLPOC_SOCKET", str(tmp_path / "s" / SOCKET_NAME))
    monkeypatch.setenv("FLPOC_TOKEN_FILE", str(tmp_path / "token"))
    host = Host(tmp_path / "s")
    yield host
    host.stop()


def test_only_what_has_no_answer_is_asked_again_after_a_break(host: Host) -> None:
    heard: list[Any] = []
    owner = Owner(TO_TRAINER, LocalHello, heard.append)
    owner.start()
    try:
        owner.request("answered", Beat(1.0, 1))
        owner.request("open", Beat(2.0, 2))
        owner.send(Beat(3.0, 3))
        host.wait(lambda: len(host.got) >= 4)
        assert host.got == [LocalHello(b"secret"), Beat(1.0, 1), Beat(2.0, 2), Beat(3.0, 3)]
        owner.settle("answered")
        host.got.clear()
        host.cut()
        host.wait(lambda: len(host.got) >= 2)
        assert host.got == [LocalHello(b"secret"), Beat(2.0, 2)]
    finally:
        owner.close()


def test_what_is_asked_while_the_owner_is_away_reaches_the_next_one(host: Host) -> None:
    heard: list[Any] = []
    came = threading.Event()
    owner = Owner(TO_TRAINER, LocalHello, lambda message: (heard.append(message), came.set()))
    owner.start()
    try:
        host.wait(lambda: len(host.got) == 1)
        host.loop.call_soon_threadsafe(host.server.close)
        host.cut()
        host.got.clear()
        owner.request("a", Beat(1.0, 7))
        host.answer = lambda message: Taken(message.calls) if isinstance(message, Beat) and message.calls else None
        host.start()
        assert came.wait(60)
        assert heard[0] == Taken(7)
        assert host.got[0] == LocalHello(b"secret")
    finally:
        owner.close()


ATTEMPT = """
import threading
from flpoc.wire.trainer_messages import TO_TRAINER, LocalHello
from flpoc.wire.owner import Owner
def take(message):
    raise KeyError("a defect")
Owner(TO_TRAINER, LocalHello, take).start()
threading.Event().wait(60)
"""


def ending(tmp_path: Path, answer: bytes) -> subprocess.CompletedProcess[str]:
    """How a job process ends that is told *answer*."""
    (tmp_path / "token").write_bytes(b"old")
    listener = socket.socket(socket.AF_UNIX)
    with listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        listener.settimeout(60)
        env = os.environ | {"FLPOC_SOCKET": str(tmp_path / "s"), "FLPOC_TOKEN_FILE": str(tmp_path / "token")}
        words = [sys.executable, "-c", ATTEMPT]
        process = subprocess.Popen(words, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(answer)
                out, err = process.communicate(timeout=60)
        finally:
            process.kill()
            process.communicate()
    return subprocess.CompletedProcess(words, process.returncode, out, err)


@pytest.mark.row("W13")
def test_an_attempt_that_has_been_replaced_ends_itself(tmp_path: Path) -> None:
    from flpoc.wire.vocabulary import Refused

    done = ending(tmp_path, frame(Refused("FENCED", "this attempt has been replaced")))
    assert done.returncode == FENCED_EXIT
    assert "has been replaced" in done.stderr


def test_an_answer_that_is_no_message_ends_the_process_instead_of_letting_it_hang(tmp_path: Path) -> None:
    done = ending(tmp_path, struct.pack(">I", 3) + b"\xc1\xc1\xc1")
    assert done.returncode == FENCED_EXIT


def test_a_defect_while_an_answer_is_taken_ends_the_process_instead_of_letting_it_hang(tmp_path: Path) -> None:
    done = ending(tmp_path, frame(Taken(1)))
    assert done.returncode == FENCED_EXIT
    assert "a defect" in done.stderr
