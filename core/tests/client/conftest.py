"""An owner of a script in the same process, which answers at once and from the same thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flpoc.client import api
from flpoc.client.script import Script
from flpoc.models.tensors import TensorFile, write_tensors
from flpoc.wire.trainer_messages import Give, Logged, Over, Submit, Taken, TrainerStart


class AtOnce:
    """Gives tasks and takes their answers.

    Attributes:
        folder: Where models and answers are.
        submitted: What was answered, in order.
        logged: What was logged.
        closed: Whether the script said that it ends.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = 0
        self.submitted: list[Submit] = []
        self.logged: list[Logged] = []
        self.closed = False

    def script(self, *tasks: Give, **start: Any) -> Script:
        """A script with its first task, for `flpoc.client`; each answer brings the next, the last one the end."""
        self._tasks = list(tasks)
        given: dict[str, Any] = {"job": "j", "site": "site-1", "run": 1, "attempt": 1, "seed": 3, "total_rounds": 5}
        self._script = Script(self, self.folder)
        self._script.take(TrainerStart(**{**given, **start}))
        self._next()
        api.use(self._script)
        return self._script

    def give(self, round_number: int = 0, kind: str = "train", **arrays: np.ndarray) -> Give:
        """A task, with these arrays as its model."""
        path = self.folder / f"{round_number}.safetensors"
        path.unlink(missing_ok=True)
        if arrays:
            write_tensors(path, arrays)
        return Give(round_number, kind, str(path) if arrays else "")  # type: ignore[arg-type]

    def answer(self, round_number: int = 0) -> dict[str, np.ndarray]:
        """The arrays of an answer."""
        with TensorFile.open(self.folder / f"update.{round_number}.safetensors") as file:
            return {name: np.array(file[name]) for name in file}

    def _next(self) -> None:
        self._script.take(self._tasks.pop(0) if self._tasks else Over())

    def request(self, key: str, message: Any) -> None:
        assert key == f"submit.{message.round}"
        self.submitted.append(message)
        self._script.take(Taken(message.round))
        self._next()

    def settle(self, key: str) -> None:
        assert key.startswith("submit.")

    def send(self, message: Any) -> None:
        assert isinstance(message, Logged)
        self.logged.append(message)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[AtOnce]:
    yield AtOnce(tmp_path)
    api.use(None)
