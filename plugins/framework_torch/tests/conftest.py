"""A script's owner in the same process: it gives tasks, and takes answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flpoc.client import api
from flpoc.client.script import Script
from flpoc.models.tensors import TensorFile, write_tensors
from flpoc.wire.trainer_messages import Give, Logged, Over, Submit, Taken, TrainerStart

os.environ.setdefault("OMP_NUM_THREADS", "1")


class Tasks:
    """Gives tasks one after the other; the model of a training task becomes that of the next."""

    def __init__(self, folder: Path) -> None:
        self._above = folder
        self._begun = 0
        self.calls = 0
        self.answers: list[Submit] = []
        self.logged: list[Any] = []

    def begin(self, *kinds: str, model: Any = None, meta: Any = None, **start: Any) -> Script:
        self._begun += 1
        self.folder = self._above / str(self._begun)
        self.folder.mkdir()
        self.answers = []
        self._kinds, self._number, self._meta = list(kinds), -1, meta or {}
        self._model, self._state = "", ""
        if model is not None:
            write_tensors(self.folder / "first.safetensors", model)
            self._model = str(self.folder / "first.safetensors")
        given: dict[str, Any] = {"job": "j", "site": "site-1", "run": 1, "attempt": 1, "seed": 3, "total_rounds": 3}
        self._script = Script(self, self.folder)
        self._script.take(TrainerStart(**{**given, "plugins": ("torch",), **start}))
        self._next()
        api.use(self._script)
        return self._script

    def _next(self) -> None:
        self._number += 1
        if self._number >= len(self._kinds):
            self._script.take(Over())
            return
        kind: Any = self._kinds[self._number]
        model = "" if kind == "submit_model" else self._model
        self._script.take(Give(self._number, kind, model, self._meta, state=self._state))

    def sent(self, number: int) -> dict[str, np.ndarray[Any, Any]]:
        """The arrays of an answer."""
        with TensorFile.open(self.folder / f"update.{number}.safetensors") as found:
            return {name: np.array(one) for name, one in found.items()}

    def request(self, key: str, message: Submit) -> None:
        self.answers.append(message)
        if message.kind == "train":
            self._model = str(self.folder / message.file)
            if message.state:
                kept = self.folder / f"kept.{message.round}"
                (self.folder / "state" / str(message.round)).rename(kept)
                self._state = str(kept)
        self._script.take(Taken(message.round))
        self._next()

    def settle(self, key: str) -> None:
        pass

    def send(self, message: Any) -> None:
        if isinstance(message, Logged):
            self.logged += message.rows

    def close(self) -> None:
        pass


@pytest.fixture
def tasks(tmp_path: Path) -> Iterator[Tasks]:
    yield Tasks(tmp_path)
    api.use(None)
