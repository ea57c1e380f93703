"""Where in the job's own code an exception came from."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

from flpoc.plugins import Plugins
from flpoc.wire.trainer_messages import Failed

_MESSAGE_LIMIT = 2000


def blame(error: BaseException, *, round_number: int | None, phase: str, plugins: tuple[str, ...] = ()) -> Failed:
    """The first cause as this process sees it: the innermost line of the job's own code.

    *plugins* are asked what to do about it, if the error does not say so itself.
    """
    code = os.environ.get("FLPOC_CODE", "")
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if code and frame.filename.startswith(code + os.sep)]
    frame = own[-1] if own else None
    if isinstance(error, SyntaxError) and error.filename and code and error.filename.startswith(code + os.sep):
        place = (_relative(error.filename, code), error.lineno or 0)
        return Failed("SyntaxError", _sendable(error.msg or ""), *place, round_number, phase)
    return Failed(
        exception=_sendable(type(error).__name__),
        message=_sendable(_said(error)),
        file=_relative(frame.filename, code) if frame else "",
        line=frame.lineno or 0 if frame else 0,
        round=round_number,
        phase=phase,
        hint=_sendable(_hint(error, plugins)),
    )


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as another:  # noqa: BLE001 - the job's own class may fail here, too
        return f"(its text cannot be had: {type(another).__name__})"


def _sendable(text: str) -> str:
    """Cut, and with what UTF-8 cannot say (names of files, for example) spelled out."""
    return text[:_MESSAGE_LIMIT].encode(errors="backslashreplace").decode()


def _relative(file: str, code: str) -> str:
    return _sendable(str(Path(file).relative_to(code)) if code else file)


def _hint(error: BaseException, plugins: tuple[str, ...]) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"install {error.name!r} where the script runs"
    hint = getattr(error, "hint", "")
    if isinstance(hint, str) and hint:
        return hint
    try:
        return str(Plugins.of_kit(plugins).ask("error_hint", error=error) or "")
    except Exception as another:  # noqa: BLE001 - the first cause counts, not what befalls its explanation
        return f"(no hint: {type(another).__name__})"
