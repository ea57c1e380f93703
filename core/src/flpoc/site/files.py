"""Where a site keeps the files of its jobs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import attrs

from flpoc.errors import ConfigError
from flpoc.filtering import FilterSpec
from flpoc.settings import parse_json, plain, structure
from flpoc.wire.messages import Announce


@attrs.frozen
class SiteFiles:
    """The folder of one run of one job at a site."""

    folder: Path

    @property
    def archive(self) -> Path:
        return self.folder / "archive.zip"

    @property
    def job(self) -> Path:
        return self.folder / "job"

    @property
    def runs(self) -> Path:
        return self.folder / "run"

    @property
    def log(self) -> Path:
        return self.folder / "trainer.log"

    @property
    def models(self) -> Path:
        """Received models, which a job's script reads."""
        return self.folder / "in"

    @property
    def kept(self) -> Path:
        """What a job's script keeps from round to round; it reads it, and writes a copy."""
        return self.folder / "kept"

    @property
    def signed(self) -> Path:
        return self.folder / "signed.json"

    def model(self, round_number: int, checksum: str) -> Path:
        return self.models / f"{round_number}.{checksum}.safetensors"

    def drop_models(self, before: int) -> None:
        """Delete received models of earlier rounds; a script that maps one keeps it."""
        for path in self.models.glob("*.safetensors"):
            if int(path.name.split(".")[0]) < before:
                path.unlink(missing_ok=True)

    def drop_attempts(self, before: int) -> None:
        """Delete the folders of earlier launches, which have ended."""
        for folder in (self.runs, self.folder / "launches"):
            for path in folder.glob("*"):
                if path.name.isdigit() and int(path.name) < before:
                    shutil.rmtree(path, ignore_errors=True)

    def drop(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


@attrs.frozen
class Note:
    """What is written down of an update.

    Attributes:
        announce: What the server is told.
        policy: Filters that the site's policy wanted when it was taken.
    """

    announce: Announce
    policy: tuple[FilterSpec, ...]


class Outbox:
    """Updates that the server has not committed yet. Its files are the truth.

    What was noted under another *policy* is not among them: it is deleted,
    and ``outdated`` has its round.
    """

    def __init__(self, folder: Path, policy: tuple[FilterSpec, ...] = ()) -> None:
        self._folder = folder
        self._policy = policy
        self._entries: dict[int, Announce] = {}
        self.outdated: set[int] = set()
        for path in sorted(folder.glob("*.json")):
            note = _noted(path)
            if note is None or not self.path(note.announce).is_file():
                # begun, and not brought to an end: the script is asked again
                path.unlink()
                path.with_suffix(".safetensors").unlink(missing_ok=True)
            elif note.policy != policy:
                self.outdated.add(note.announce.round)
                self.drop(note.announce)
            else:
                self._entries[note.announce.round] = note.announce

    def path(self, entry: Announce) -> Path:
        return self._folder / f"{entry.round}.{entry.attempt}.{entry.checksum}.safetensors"

    def read(self, entry: Announce) -> bytes:
        """A small update as it was announced, however long a script has made it since."""
        with self.path(entry).open("rb") as file:
            return file.read(entry.size)

    def note(self, entry: Announce) -> None:
        """Write down what is to be said of an update, before its file is taken (blocking)."""
        path = self.path(entry).with_suffix(".json")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(plain(Note(entry, self._policy))))
        part.rename(path)

    def add(self, entry: Announce) -> None:
        self._entries[entry.round] = entry

    def get(self, round_number: int) -> Announce | None:
        return self._entries.get(round_number)

    def all(self) -> list[Announce]:
        return [self._entries[number] for number in sorted(self._entries)]

    def drop(self, entry: Announce) -> None:
        """Forget an update: it is committed, or nobody wants it."""
        self._entries.pop(entry.round, None)
        self.path(entry).unlink(missing_ok=True)
        self.path(entry).with_suffix(".json").unlink(missing_ok=True)

    def drop_committed(self, committed: int) -> None:
        for entry in self.all():
            if entry.round <= committed:
                self.drop(entry)


def _noted(path: Path) -> Note | None:
    """What :meth:`Outbox.note` wrote; None if power was lost meanwhile."""
    try:
        return structure(parse_json(path.read_bytes(), str(path)), Note)
    except ConfigError:
        return None
