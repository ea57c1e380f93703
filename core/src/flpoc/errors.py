"""What can go wrong, from the general to the particular.

FlpocError
|-- UsageError         a command was called wrongly
|-- ConfigError        a project, job or settings file is wrong
|-- KitError           a startup kit is missing, incomplete or not to be trusted
|-- PluginError        a plugin is missing, broken or in conflict
|-- LaunchError        a process could not be started
|-- ServiceError       a server or site of this machine is not as it should be
|-- ConnectionFailed   the server cannot be reached
|-- AuthError          the server, or a site, does not allow it
|-- Disagreement       two sides cannot work together (versions, plugins)
|-- DeadlineError      a wait was longer than allowed
|-- JobError           a job is unknown, or not in a state that allows it
|-- IntegrityError     bytes are not what they were said to be
|-- ResourceError      a limit or a disk is full
`-- InternalError      a defect of flpoc itself

Every error carries a stable ``code``, from which the exit status follows
(:data:`EXIT_STATUS`, the only such table), and a ``hint``: what to do next.
"""

from __future__ import annotations

from typing import Any, ClassVar

#: Codes of `flpoc cert` and `flpoc package` that say that what was given is wrong; their others end with 1.
_OF_ENROLMENT = (
    "CSR_NOT_FOUND",
    "INVALID_CERT_TYPE",
    "INVALID_ENDPOINT",
    "INVALID_NAME",
    "INVALID_PROJECT_NAME",
    "INVALID_REQUEST_ZIP",
    "INVALID_ROOTCA_FINGERPRINT",
    "INVALID_SIGNED_ZIP",
    "LOCAL_SITE_INVALID",
    "LOCAL_SITE_MISMATCH",
    "LOCAL_SITE_UNSUPPORTED_FEATURE",
    "PROJECT_CA_MISMATCH",
    "PROJECT_FILE_NOT_FOUND",
    "PROJECT_PROFILE_MISMATCH",
    "REQUEST_DIR_MISMATCH",
    "REQUEST_DIR_NOT_FOUND",
    "REQUEST_METADATA_INVALID",
    "REQUEST_METADATA_MISMATCH",
    "REQUEST_ZIP_NOT_FOUND",
    "ROOTCA_FINGERPRINT_MISMATCH",
    "ROOTCA_LOAD_FAILED",
    "SERVER_NAME_HOST_MISMATCH",
    "SIGNED_ZIP_IDENTITY_CONFLICT",
    "UNSUPPORTED_TOPOLOGY",
)

#: Exit status of a command that ends with this code. Codes not named here end with 1.
EXIT_STATUS: dict[str, int] = {
    **dict.fromkeys(_OF_ENROLMENT, 4),
    "CONNECTION_FAILED": 2,
    "AUTH_FAILED": 2,
    "STARTUP_KIT_MISSING": 2,
    "SERVICE_FAILED": 2,
    "SYSTEM_NOT_READY": 2,
    "VERSION_MISMATCH": 2,
    "TIMEOUT": 3,
    "INVALID_ARGS": 4,
    "INVALID_CONFIG": 4,
    "CONFIG_NOT_FOUND": 4,
    "INVALID_KIT": 4,
    "UNSUPPORTED_KIT": 4,
    "PLUGIN_NOT_FOUND": 4,
    "PLUGIN_CONFLICT": 4,
    "PLUGIN_BROKEN": 4,
    "JOB_NOT_DONE": 4,
    "LOG_CONFIG_INVALID": 4,
    "INVALID_STUDY_NAME": 4,
    "INVALID_SITE": 4,
    "SUBMIT_TOKEN_CONFLICT": 4,
    "SUBMIT_TOKEN_JOB_DELETED": 4,
    "INTERNAL_ERROR": 5,
}


class FlpocError(Exception):
    """Something went wrong, and the message says what.

    Attributes:
        message: What is wrong and where, in one line.
        hint: What to do about it; may be empty.
        code: Stable name of the kind of failure, for machines.
        data: What else a program may want to know; plain JSON data or None.
    """

    default_code: ClassVar[str] = "INTERNAL_ERROR"

    def __init__(self, message: str, *, hint: str = "", code: str = "", data: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.default_code
        self.data = data

    @property
    def exit_status(self) -> int:
        return EXIT_STATUS.get(self.code, 1)


class UsageError(FlpocError):
    """A command was called wrongly."""

    default_code = "INVALID_ARGS"


class ConfigError(FlpocError):
    """A project, job or settings file is wrong."""

    default_code = "INVALID_CONFIG"


class KitError(FlpocError):
    """A startup kit is missing, incomplete or not to be trusted."""

    default_code = "INVALID_KIT"


class PluginError(FlpocError):
    """A plugin is missing, broken or in conflict with another."""

    default_code = "PLUGIN_NOT_FOUND"


class LaunchError(FlpocError):
    """A process could not be started."""

    default_code = "LAUNCH_FAILED"


class ServiceError(FlpocError):
    """A server or site on this machine is not as it should be."""

    default_code = "SERVICE_FAILED"


class ConnectionFailed(FlpocError):
    """The server cannot be reached."""

    default_code = "CONNECTION_FAILED"


class AuthError(FlpocError):
    """The server, or a site, does not allow it."""

    default_code = "AUTH_FAILED"


class Disagreement(FlpocError):
    """Two sides cannot work together: other versions, other plugins."""

    default_code = "VERSION_MISMATCH"


class DeadlineError(FlpocError):
    """A wait took longer than allowed."""

    default_code = "TIMEOUT"


class JobError(FlpocError):
    """A job is unknown, or not in a state that allows what was asked."""

    default_code = "JOB_INVALID"


class IntegrityError(FlpocError):
    """Bytes are not what they were said to be."""

    default_code = "INTEGRITY_FAILED"


class ResourceError(FlpocError):
    """A limit is reached, or a disk is full."""

    default_code = "RESOURCE_EXHAUSTED"


class InternalError(FlpocError):
    """A defect of flpoc itself."""

    default_code = "INTERNAL_ERROR"


_BY_CODE: dict[str, type[FlpocError]] = {
    **{kind.default_code: kind for kind in FlpocError.__subclasses__()},
    "STARTUP_KIT_MISSING": KitError,
    "NOT_AUTHORIZED": AuthError,
    "PLUGIN_CONFLICT": PluginError,
    "PLUGIN_BROKEN": PluginError,
}


def from_code(code: str, message: str, hint: str = "", data: Any = None) -> FlpocError:
    """Give the error that another process described by its code."""
    kind = _BY_CODE.get(code, JobError if code.startswith(("JOB_", "SUBMIT_TOKEN_")) else FlpocError)
    return kind(message, hint=hint, code=code, data=data)


#: What to do where a disk is full.
MAKE_ROOM = "make room, then try again"


def disk_is_full(error: BaseException | None) -> bool:
    """Whether this error, or what it was raised for, is that a disk has no room."""
    import errno

    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def did_you_mean(word: str, known: Any, fallback: str = "") -> str:
    """Say which known name was probably meant, as a hint sentence; another number (``site-7``) is no slip."""
    import difflib

    names = sorted(map(str, known))
    likely = [name for name in names if name.strip("0123456789") != word.strip("0123456789")]
    close = difflib.get_close_matches(word, likely, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return fallback or (f"known: {', '.join(names)}" if names else "")


def known_names(word: str, known: Any, *, most: int = 20) -> str:
    """Say which known name was probably meant, and all that are known, *most* of them."""
    names = sorted(map(str, known))
    shown = ", ".join([*names[:most], "..."] if len(names) > most else names)
    return f"{did_you_mean(word, names, ' ')} known: {shown or 'none'}".strip()
