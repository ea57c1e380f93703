"""The model that a job starts from, and who hears of the ones that are made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flpoc.errors import ConfigError, JobError
from flpoc.jobs.code import CodeRef
from flpoc.models.flmodel import FLModel
from flpoc.models.tensors import TensorFile, write_tensors
from flpoc.workflows import Federation
from flpoc.workflows.job_code import made_from_code
from flpoc.workflows.persisting import ModelPersistor


class Start:
    """Gives a federation its first model, and a persistor every model.

    Args:
        federation: The sites.
        checkpoint: A file at the server; empty for none.
        persistor: A class of the job's code; None for none.

    Raises:
        ConfigError: More than one thing says what to start from.
        JobError: The server does not grant the file, or the persistor cannot be made.
    """

    def __init__(self, federation: Federation, checkpoint: str, persistor: CodeRef | None) -> None:
        self._federation = federation
        self._checkpoint = granted(checkpoint, federation) if checkpoint else None
        if checkpoint and federation.job.initial_model:
            raise ConfigError("initial_model and initial_checkpoint: say one of them")
        self._persistor: ModelPersistor | None = None
        if persistor is not None:
            wanted: Any = ModelPersistor
            self._persistor = made_from_code(federation.code, persistor, wanted, "persistor")

    def begin(self) -> None:
        """Give the sites the first model, unless there is one; a persistor hears again of the last that was committed.

        A controller that was killed may have committed a model without telling.
        """
        federation = self._federation
        if federation.model is not None:
            if federation.next_round > 0:
                self.made(federation.next_round - 1)
        elif federation.next_round == 0:
            self._first()

    def _first(self) -> None:
        federation = self._federation
        if self._checkpoint is not None:
            self._from(read_checkpoint(self._checkpoint, federation))
        elif federation.job.initial_model:
            federation.start_from(federation.code / federation.job.initial_model)
        elif self._persistor is not None:
            model = self._persistor.load_model()
            if model is None:
                return
            if not isinstance(model, FLModel) or not isinstance(model.params, Mapping) or not model.params:
                what = type(model).__name__ if not isinstance(model, FLModel) else "an FLModel without params"
                raise JobError(f"persistor: load_model gives {what}", hint="give FLModel(params={name: array}) or None")
            self._from(model.params)

    def _from(self, arrays: Mapping[str, Any]) -> None:
        path = self._federation.folder / "start.safetensors"
        path.unlink(missing_ok=True)
        write_tensors(path, arrays)
        self._federation.start_from(path)
        path.unlink(missing_ok=True)

    def made(self, round_number: int) -> None:
        """The model of this round was committed."""
        model = self._federation.model
        if self._persistor is not None and model is not None:
            total = self._federation.job.rounds
            given = FLModel(params=model.arrays(), current_round=round_number, total_rounds=total)
            self._persistor.save_model(given)


def granted(checkpoint: str, federation: Federation) -> Path:
    """The file, links followed, if it is below a folder that the server's policy grants.

    Raises:
        JobError: It is not, or there is no such file.
    """
    path = Path(checkpoint)
    folders = federation.checkpoints
    real = path.resolve()
    if folders is not None and not any(real.is_relative_to(folder.resolve()) for folder in folders):
        raise JobError(
            f"initial_checkpoint: {checkpoint} is below no folder that the server grants to jobs",
            hint="whoever runs the server can add its folder to `checkpoints` in local/policy.json"
            + (f"; granted are {', '.join(map(str, folders))}" if folders else "; none is granted"),
        )
    if not real.is_file():
        raise JobError(f"initial_checkpoint: there is no file {checkpoint} at the server", hint="check the path")
    return real


def read_checkpoint(path: Path, federation: Federation) -> Mapping[str, Any]:
    """The arrays of a checkpoint: .safetensors, .npz, or what a framework of the project reads.

    Raises:
        JobError: It cannot be read, or holds no arrays of numbers.
        PluginError: No framework of the project reads such files.
    """
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return TensorFile.open(path)
    if suffix == ".npz":
        return _npz(path)
    from flpoc.plugins import Plugins
    from flpoc.training import framework_for_file

    found: Mapping[str, Any] = framework_for_file(Plugins.of_kit(federation.plugins), path).read_checkpoint(path)
    return found


def _npz(path: Path) -> Mapping[str, Any]:
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise JobError(
            f"initial_checkpoint: {path} cannot be read: {error}", hint="write it with numpy.savez"
        ) from None
