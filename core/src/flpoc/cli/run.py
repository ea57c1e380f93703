"""The one place where a command line is run: its result written down, its failure given a code."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, Final

import click

from flpoc.cli.call import Call
from flpoc.cli.output import be_quiet_at_exit, prepare_streams, reader_is_gone, send
from flpoc.errors import (
    MAKE_ROOM,
    ConnectionFailed,
    DeadlineError,
    FlpocError,
    InternalError,
    ResourceError,
    UsageError,
    disk_is_full,
)

#: What a shell reports for a program that was interrupted, or whose reader went away.
INTERRUPTED: Final = 130
READER_GONE: Final = 141

#: What to do about an error that says nothing itself.
_HINTS: Final = {
    "CONNECTION_FAILED": "check that the server runs and that its address and port are right",
    "AUTH_FAILED": "check which startup kit is used, and what its user may do",
    "TIMEOUT": "give a larger --timeout",
    "STARTUP_KIT_MISSING": "prepare a POC with `flpoc poc prepare`, or set FLPOC_STARTUP_KIT_DIR",
    "JOB_AMBIGUOUS": "give more of the id; `flpoc job list` shows them",
    "JOB_NOT_FOUND": "list jobs with `flpoc job list`",
    "JOB_NOT_DONE": "wait for it with `flpoc job wait`, or abort it first",
    "JOB_NOT_RUNNING": "see its state with `flpoc job meta`",
    "SYSTEM_NOT_READY": "wait until sites have connected, then try again",
    "OUTPUT_DIR_NOT_WRITABLE": "choose another folder, or change its permissions",
    "INVALID_KIT": "copy the whole kit again, or have it provisioned anew",
    "INVALID_CONFIG": "correct it there, then try again",
    "INTEGRITY_FAILED": "look at what is named: it is not what it should be, and was not used",
    "FILE_FAILED": "look at what stands at this path, and at its permissions",
    "PLUGIN_BROKEN": "see `flpoc plugins list`",
}


def run(line: Sequence[str], commands: Sequence[tuple[str, str, str]]) -> int:
    """Run a command line of flpoc and return its exit status."""
    prepare_streams()
    # gRPC would write its own lines about a handshake that failed; what is wrong is said once, in words
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    call = Call()
    return settled(call, lambda: _carry_out(call, line, commands))


def settled(call: Call, act: Callable[[], Any]) -> int:
    """Run something, write down its report or its failure, and give the exit status."""
    with _noting_interrupts(call):
        return _settled(call, act)


@contextlib.contextmanager
def _noting_interrupts(call: Call) -> Iterator[None]:
    """Remember that Ctrl-C was pressed: it can come out as any error.

    An import that it cuts off leaves half of a package, and compiled modules
    raise an error of their own instead.
    """
    call.interrupted = False
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield  # nothing comes of it
        return

    def note(number: int, frame: FrameType | None) -> None:
        call.interrupted = True
        before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _settled(call: Call, act: Callable[[], Any]) -> int:
    from flpoc.formatting import Report

    try:
        result = act()
        return _say(call, result) if isinstance(result, Report) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, click.Abort):
        if sys.stderr.isatty() and not call.parted:
            sys.stderr.write("\n")  # the shell's prompt does not belong behind ^C
        return INTERRUPTED
    except BrokenPipeError as error:
        if reader_is_gone(sys.stdout):
            be_quiet_at_exit(sys.stdout)
            return READER_GONE
        return _fail(call, error)
    except Exception as error:  # noqa: BLE001 - the last line of defence; each becomes a code
        # whatever else Ctrl-C has brought about, e.g. what could not be stopped, is worth saying
        known = isinstance(error, (FlpocError, OSError, click.ClickException))
        return INTERRUPTED if call.interrupted and not known else _fail(call, error)


def _carry_out(call: Call, line: Sequence[str], commands: Sequence[tuple[str, str, str]]) -> Any:
    from flpoc.cli.global_options import take_globals
    from flpoc.cli.root import Root

    root = Root(call, commands)
    chosen = take_globals(line)
    call.connect_timeout = chosen.connect_timeout
    if chosen.format is not None:
        call.choose_format(chosen.format)
    if chosen.problem is not None:
        raise chosen.problem
    if chosen.schema:
        _print_schema(root, chosen.words)
        return None
    with root.make_context("flpoc", list(chosen.words), obj=call) as ctx:
        return root.invoke(ctx)


def _print_schema(root: click.Group, words: Sequence[str]) -> None:
    import json

    from flpoc.cli.schema import leaf, schema

    send(sys.stdout, json.dumps(schema(leaf(root, words)), indent=2))


def _say(call: Call, report: Any) -> int:
    """Write a report and give its exit status."""
    import attrs

    from flpoc.cli.redaction import redact
    from flpoc.formatting import Table

    shown = attrs.evolve(
        report,
        data=redact(report.data),
        text=[
            attrs.evolve(part, rows=tuple(tuple(redact(row)) for row in part.rows))
            if isinstance(part, Table)
            else redact(part)
            for part in report.text
        ],
        hint=redact(report.hint),
    )
    for warning in report.warnings:
        call.note(warning)
    send(sys.stdout, call.formatter.report(shown))
    if call.for_people and report.hint:
        call.note(f"Hint: {report.hint}")
    if call.for_people and report.code and report.exit_status:
        call.note(f"Code: {report.code} (exit {report.exit_status})")
    return int(report.exit_status)


def _fail(call: Call, error: Exception) -> int:
    """Write an error, whatever it is, and give its exit status; never raises."""
    try:
        known = _translated(call, error)
        _write_error(call, error, known)
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError:
        be_quiet_at_exit(sys.stdout)
        be_quiet_at_exit(sys.stderr)
        return READER_GONE if isinstance(error, BrokenPipeError) else known.exit_status
    try:
        sys.stdout.flush()
    except OSError:  # what could not be written is said already; the interpreter would try it again at its end
        be_quiet_at_exit(sys.stdout)
    return known.exit_status


def _write_error(call: Call, error: Exception, known: FlpocError) -> None:
    from flpoc.cli.formats import JsonFormatter
    from flpoc.cli.redaction import redact

    safe = FlpocError(redact(known.message), hint=redact(known.hint), code=known.code, data=redact(known.data))
    out, err = _formatter_for_errors(call).error(safe)
    if call.unknown_format:
        # whoever asked for a format reads it with a program: the text is for the log, the envelope for the program
        out = JsonFormatter().error(safe)[0]
    if not out and isinstance(error, click.UsageError) and error.ctx is not None:
        send(sys.stderr, call.reminder(error.ctx), end="")
    if call.debug and not isinstance(error, click.UsageError):
        import traceback

        call.note("".join(traceback.format_exception(error)))
    send(sys.stdout, out)
    send(sys.stderr, err)


def _formatter_for_errors(call: Call) -> Any:
    """A stream that never began ends with an ordinary error document."""
    from flpoc.cli.formats import JsonFormatter

    if call.formatter.streams and not call.dispatched:
        return JsonFormatter()
    return call.formatter


def _translated(call: Call, error: Exception) -> FlpocError:
    """The same failure as an error with a code and a hint."""
    if isinstance(error, click.UsageError):
        return _usage(error)
    if isinstance(error, FlpocError):
        known = error
    elif isinstance(error, TimeoutError):
        known = DeadlineError(str(error) or "it took longer than allowed")
    elif isinstance(error, ConnectionError):
        known = ConnectionFailed(str(error) or type(error).__name__)
    elif isinstance(error, OSError) and error.strerror:
        known = _of_system(error)
    elif isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # pathlib, before Python 3.13
        known = FlpocError(str(error), code="FILE_FAILED")
    else:
        known = InternalError(f"{type(error).__name__}: {error}")
    if known.code != "DISK_FULL" and disk_is_full(error):
        return ResourceError(known.message, hint=MAKE_ROOM, code="DISK_FULL", data=known.data)
    if known.hint:
        return known
    hint = _asked(call, error) or _HINTS.get(known.code, "")
    if not hint and known.code == "INTERNAL_ERROR":
        hint = "this is a defect of flpoc or of a plugin; give --debug, where the command has it, for the details"
    return FlpocError(known.message, hint=hint, code=known.code, data=known.data)


def _of_system(error: OSError) -> FlpocError:
    """What the system refuses is no defect: a path that cannot be used."""
    where = f"{str(error.filename)[:300]}: " if error.filename else ""
    return FlpocError(f"{where}{error.strerror}", code="FILE_FAILED")


def _asked(call: Call, error: Exception) -> str:
    """What a plugin says to do about it."""
    try:
        return str(call.plugins.ask("error_hint", error=error) or "")
    except FlpocError:
        return ""  # the plugins cannot be loaded, of which the error itself may tell
    except Exception as trouble:  # noqa: BLE001 - a hint is not worth a second failure
        call.note(f"no plugin could be asked for a hint: {type(trouble).__name__}: {trouble}")
        return ""


def _usage(error: click.UsageError) -> FlpocError:
    """A wrong command line as an error that says how it is written."""
    ctx = error.ctx
    path = ctx.command_path if ctx else "flpoc"
    likely = list(getattr(error, "possibilities", None) or ())[:3]
    guess = f"did you mean {' or '.join(map(repr, likely))}? " if likely else ""
    data: dict[str, Any] = {"usage": path, "choices": []}
    if ctx is not None:
        data["usage"] = " ".join([path, *ctx.command.collect_usage_pieces(ctx)])
        if isinstance(ctx.command, click.Group):
            data["choices"] = sorted(ctx.command.list_commands(ctx))
    message = error.message if likely else error.format_message()
    return UsageError(message, hint=f"{guess or _misplaced(ctx, message)}see `{path} -h`", data=data)


def _misplaced(ctx: click.Context | None, message: str) -> str:
    """Where a word would belong that a command about a job's folder was given without its option."""
    from shlex import quote

    word = message.removeprefix("Got unexpected extra argument (").removesuffix(")")
    if ctx is None or word == message or all("--job-folder" not in one.opts for one in ctx.command.params):
        return ""
    return f"a job's folder is named with -j: `{ctx.command_path} -j {quote(word)}`; "
