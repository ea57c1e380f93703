"""The committed model of a run, and checking what claims to be one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import attrs

from flpoc.errors import IntegrityError, ResourceError
from flpoc.models.handover import take
from flpoc.models.header import Header, read_header
from flpoc.wire.controller_messages import Assign, Commit
from flpoc.wire.messages import INLINE_BYTES, Announce, ModelRef
from flpoc.wire.transfers import write_whole

#: An update may be larger than its model by so much: its header may be written otherwise.
LARGER_BYTES = 1 << 20
#: So much of the disk stays free.
RESERVE_BYTES = 256 << 20


@attrs.frozen
class Model:
    """The model of the last accepted commit, as sites get it; round -1 is the initial one."""

    round: int
    path: Path
    ref: ModelRef
    header: Header


def header_of(path: Path) -> Header:
    """The checked header of a model file (blocking)."""
    with path.open("rb") as file:
        return read_header(file.fileno(), where=path.name)[0]


def check_room(folder: Path, message: Announce, model: Model | None) -> None:
    """Whether an announced update may be sent (blocking).

    Raises:
        IntegrityError: It is larger than an update of this model can be.
        ResourceError: It would leave too little of the disk.
    """
    if model is not None and message.size > model.ref.size + LARGER_BYTES:
        raise IntegrityError(f"an update of {message.size} bytes to a model of {model.ref.size}")
    if shutil.disk_usage(folder).free < message.size + RESERVE_BYTES:
        raise ResourceError("too little of the disk is left", code="DISK_FULL", hint="free some space at the server")


def store_inline(path: Path, data: bytes, size: int, checksum: str) -> Header:
    """Write an update that came in its message; gives its checked header (blocking).

    Raises:
        IntegrityError: It is not what was announced; then nothing is kept.
    """
    if len(data) != size:
        raise IntegrityError(f"{len(data)} bytes came, {size} were announced")
    write_whole(path, data, checksum)
    try:
        return header_of(path)
    except IntegrityError:
        path.unlink(missing_ok=True)
        raise


def take_model(named: Commit | Assign, folder: Path, into: Path) -> Model:
    """Take the model that the controller names out of its folder (blocking).

    It is there already when the server was restarted after it had been
    taken and before a commit was written.
    """
    if not into.exists():
        take(folder, named.file, named.size, into)
    return load_model(named.round, into, named.size, named.checksum)


def take_state(named: Commit, folder: Path, into: Path) -> Path:
    """Take the file that an aggregator keeps, likewise (blocking)."""
    if not into.exists():
        take(folder, named.state_file, named.state_size, into)
    return into


def same_model(model: Model, round_number: int, into: Path) -> Model:
    """The model under the name of a later round, in which it was not changed (blocking)."""
    if not into.exists():
        os.link(model.path, into)
    return attrs.evolve(model, round=round_number, path=into)


def load_model(round_number: int, path: Path, size: int, checksum: str) -> Model:
    """A model file as it was committed; small ones with their bytes (blocking)."""
    header = header_of(path)
    if header.total_bytes != size:
        raise IntegrityError(f"{path}: {header.total_bytes} bytes; {size} were committed")
    inline = _beginning(path, size) if size <= INLINE_BYTES else None
    return Model(round_number, path, ModelRef(size, checksum, inline), header)


def _beginning(path: Path, size: int) -> bytes:
    """So many bytes, even if a controller that still has the file open makes it longer."""
    with path.open("rb") as file:
        return file.read(size)
