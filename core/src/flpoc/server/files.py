"""Where the server keeps the files of its jobs."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

import attrs


@attrs.frozen
class ServerFiles:
    """The state folder of a server."""

    state: Path

    def archive(self, sha256: str) -> Path:
        return self.state / "archives" / f"{sha256}.zip"

    def job(self, job: str) -> JobFiles:
        return JobFiles(self.state / "jobs" / job)

    def socket_folder(self, job: str) -> Path:
        return self.state / "sockets" / job


@attrs.frozen
class JobFiles:
    """The folder of one job."""

    folder: Path

    @property
    def code(self) -> Path:
        return self.folder / "job"

    @property
    def runs(self) -> Path:
        return self.folder / "run"

    @property
    def read_by_controller(self) -> tuple[Path, ...]:
        """Folders of code, committed models and received updates."""
        return self.code, self.folder / "models", self.folder / "updates"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def model(self, round_number: int, checksum: str) -> Path:
        return self.folder / "models" / f"{round_number}.{checksum}.safetensors"

    def state(self, round_number: int, checksum: str) -> Path:
        """What an aggregator needs besides a model, in a file."""
        return self.folder / "models" / f"{round_number}.{checksum}.state"

    def update(self, round_number: int, site: str, checksum: str) -> Path:
        return self.folder / "updates" / str(round_number) / f"{site}.{checksum}.safetensors"

    def log(self, site: str) -> Path:
        return self.folder / "logs" / f"{site}.log"

    def drop_updates(self, round_number: int) -> None:
        shutil.rmtree(self.folder / "updates" / str(round_number), ignore_errors=True)

    def drop_models(self, keep: Collection[Path], committed: int, *, earlier: bool) -> None:
        """Delete the models of the *committed* round except those to *keep*, and if *earlier* those before it.

        States of aggregators go in any case. What a later round has is just
        being made, while this one is written.
        """
        for path in (self.folder / "models").glob("*"):
            number = round_of(path)
            if number > committed or path in keep:
                continue
            if earlier or number == committed or path.suffix == ".state":
                path.unlink(missing_ok=True)

    def drop_working_files(self) -> None:
        """Delete what only a running job needs."""
        for name in ("models", "updates", "run", "job", "launches"):
            shutil.rmtree(self.folder / name, ignore_errors=True)


def round_of(path: Path) -> int:
    """The round of a model or state; -1 before the first."""
    number = path.name.partition(".")[0]
    return int(number) if number.lstrip("-").isdecimal() else -1
