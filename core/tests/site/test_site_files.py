"""The outbox and the way of a log to the server."""

from __future__ import annotations

import asyncio
from pathlib import Path

from flpoc.filtering import FilterSpec
from flpoc.site.files import Outbox
from flpoc.site.log_shipper import PIECE_BYTES, LogShipper
from flpoc.wire.messages import Announce


def update(round_number: int) -> Announce:
    return Announce("j", 1, round_number, "train", 1, 3, f"{round_number:032x}", 1.0, "FULL", {"a": 1.0}, {}, False)


def filled(tmp_path: Path) -> Outbox:
    box = Outbox(tmp_path / "outbox")
    for number in range(3):
        box.note(update(number))
        box.path(update(number)).write_bytes(b"abc")
        box.add(update(number))
    return box


def test_a_later_agent_finds_the_updates_of_a_former_one(tmp_path: Path) -> None:
    filled(tmp_path)
    assert Outbox(tmp_path / "outbox").all() == [update(0), update(1), update(2)]


def test_committed_updates_are_forgotten_with_their_files(tmp_path: Path) -> None:
    filled(tmp_path).drop_committed(1)
    assert Outbox(tmp_path / "outbox").all() == [update(2)]
    assert len(list((tmp_path / "outbox").iterdir())) == 2


def test_what_was_only_begun_is_forgotten(tmp_path: Path) -> None:
    box = filled(tmp_path)
    box.path(update(0)).unlink()
    box.path(update(1)).with_suffix(".json").write_bytes(b"")
    assert Outbox(tmp_path / "outbox").all() == [update(2)]
    assert len(list((tmp_path / "outbox").iterdir())) == 2


def test_what_was_answered_under_another_policy_is_not_sent_any_more(tmp_path: Path) -> None:
    filled(tmp_path)
    box = Outbox(tmp_path / "outbox", (FilterSpec("clip"),))
    assert (box.all(), box.outdated) == ([], {0, 1, 2})
    assert list((tmp_path / "outbox").iterdir()) == []


def test_an_update_that_a_script_goes_on_writing_is_read_no_further_than_announced(tmp_path: Path) -> None:
    box = filled(tmp_path)
    with box.path(update(0)).open("ab") as still_open:
        still_open.truncate(1 << 40)
    assert box.read(update(0)) == b"abc"


class Server:
    """What arrives, put together as the server does it."""

    def __init__(self) -> None:
        self.log = b""

    def take(self, offset: int, data: bytes) -> None:
        if offset <= len(self.log) < offset + len(data):
            self.log += data[len(self.log) - offset :]


def test_a_log_arrives_whole_over_breaks_rotation_and_a_restart(tmp_path: Path) -> None:
    path, server = tmp_path / "t.log", Server()
    text = b"".join(b"line %d\n" % number for number in range(60_000))
    half, third = len(text) // 2, len(text) // 3

    async def main() -> None:
        shipper = LogShipper(path, server.take)
        path.write_bytes(text[:third])
        shipper.resume(0)
        await shipper.flush()
        assert server.log == text[:third]
        shipper.pause()
        with path.open("ab") as file:
            file.write(text[third:half])
        path.rename(tmp_path / "t.log.1")
        path.write_bytes(text[half : half + 100])
        await shipper.flush()
        assert server.log == text[:third]  # nobody is there
        server.log = server.log[:-1000]  # the server lost its last bytes
        shipper.resume(len(server.log))
        await shipper.flush()
        assert server.log == text[: half + 100]
        again = LogShipper(path, server.take)  # a new agent, after the rotation
        with path.open("ab") as file:
            file.write(text[half + 100 :])
        again.resume(len(server.log))
        await again.flush()

    asyncio.run(main())
    assert len(text) > 2 * PIECE_BYTES
    assert server.log == text


def test_a_log_that_does_not_exist_yet_is_no_error(tmp_path: Path) -> None:
    async def main() -> None:
        shipper = LogShipper(tmp_path / "none", Server().take)
        shipper.resume(0)
        await shipper.flush()

    asyncio.run(main())
