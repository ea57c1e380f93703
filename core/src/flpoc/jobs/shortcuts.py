"""Short names for folders of temporary files: sockets are made in them, whose names may have 107 bytes."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from pathlib import Path
from typing import Final

#: What libraries put behind it: `multiprocessing` names a socket ``/pymp-12345678/listener-12345678``.
_BEHIND: Final = 32
_LONGEST: Final = 107 - _BEHIND


class Shortcuts:
    """The links of one owner: in its state, and for those that lie too deep in the system's temporary folder, too.

    Args:
        folder: Where they are.
        elsewhere: Whether the system's temporary folder is the same for whoever is to use them: not for containers.
    """

    def __init__(self, folder: Path, *, elsewhere: bool = True) -> None:
        self._folder = folder
        self._is_elsewhere = elsewhere

    def make(self, temporary: Path) -> Path:
        """A short path of a folder; a longer one where nothing short can be made."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for number in itertools.count():
            path = self._folder / str(number)
            if path.is_symlink():
                continue
            far = _elsewhere(temporary) if self._is_elsewhere and len(os.fsencode(path)) > _LONGEST else None
            try:
                path.symlink_to(far or temporary)
            except FileExistsError:
                _remove(far)
                continue
            return far or path
        raise AssertionError("numbers do not end")

    def drop(self, above: Path | None = None) -> None:
        """Remove the links to what is directly below a folder; None: all."""
        for path in self._folder.glob("*"):
            target = path.readlink()
            far = target if target.is_symlink() else None
            leads_to = far.readlink() if far is not None else target
            if above in (None, leads_to.parent):
                _remove(far)
                path.unlink(missing_ok=True)


def _elsewhere(temporary: Path) -> Path | None:
    """A link in a new folder, for its owner only, where paths are short; None if there is no such place."""
    for place in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")):  # noqa: S108 - mkdtemp makes it 0700
        with contextlib.suppress(OSError):
            far = Path(tempfile.mkdtemp(prefix="flpoc-", dir=place)) / "t"
            if len(os.fsencode(far)) <= _LONGEST:
                far.symlink_to(temporary)
                return far
            far.parent.rmdir()
    return None


def _remove(far: Path | None) -> None:
    if far is not None:
        far.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            far.parent.rmdir()
