"""``flpoc audit``: who was allowed what, and whether the log about it is still as it was written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flpoc.cli.command import Group
from flpoc.cli.options import Number, option
from flpoc.errors import UsageError
from flpoc.formatting import Report, Table

if TYPE_CHECKING:
    from flpoc.audit.checking import Verdict
    from flpoc.audit.records import Record

_HASH = re.compile(r"[0-9a-fA-F]{64}\Z")


@click.group(cls=Group, help="Check and show the audit logs of servers and sites.")
def audit() -> None:
    pass


@audit.command(
    "verify",
    examples=("flpoc audit verify", "flpoc audit verify /srv/flpoc/state"),
    mutating=False,
    idempotent=True,
)
@click.argument("path", required=False, type=click.Path(path_type=Path))
@option("--expect", multiple=True, metavar="HASH", help="A hash noted before: its record must still be there.")
def verify(path: Path | None, expect: tuple[str, ...]) -> Report:
    """Check that no record of an audit log was changed, removed, inserted or moved.

    PATH is a log's folder or one of its files, a state folder, a kit, or the
    workspace of a proof of concept; without it, the configured workspace is
    checked, server and sites.

    Whoever can write a log can also write a new one that is sound in itself.
    So note the head that is printed, somewhere else, and give it with
    --expect the next time.
    """
    from flpoc.audit.checking import verify as check

    hashes = tuple(one.lower() for one in expect)
    for one in hashes:
        if not _HASH.match(one):
            raise UsageError(f"--expect: {one[:80]!r} is no hash", hint="give what verify printed as head: 64 digits")
    found = [check(log, hashes) for log in _logs(path)]
    missing = [one for one in hashes if not any(one in verdict.recognised for verdict in found)]
    bad = [verdict for verdict in found if verdict.fault is not None]
    data = {"logs": [_data(one) for one in found], "expected_missing": missing, "intact": not (bad or missing)}
    text = [line for one in found for line in _lines(one)]
    text += [f"Expected, and in no log: {one}" for one in missing]
    if not bad and not missing:
        return Report(data=data, text=text)
    return Report(
        data=data,
        text=text,
        exit_status=1,
        code="INTEGRITY_FAILED",
        hint="keep a copy of the folder before anything else; who can write to it? compare with a backup",
    )


@audit.command(
    "show",
    examples=("flpoc audit show --denied", "flpoc audit show /srv/flpoc/state --tail 100"),
    mutating=False,
    idempotent=True,
)
@click.argument("path", required=False, type=click.Path(path_type=Path))
@option(
    "--tail",
    type=Number(int, low=1, high=1_000_000),
    default=20,
    show_default=True,
    metavar="N",
    help="The last N of each.",
)
@click.option("--denied", is_flag=True, help="Only what was refused.")
def show(path: Path | None, tail: int, denied: bool) -> Report:
    """Show the last records of audit logs; PATH is as for verify. Nothing is checked."""
    from flpoc.audit.checking import last_records

    logs = _logs(path)
    found = [(log, last_records(log, tail, denied=denied)) for log in logs]
    data = [{"log": str(log), "records": [_record(one) for one in records]} for log, records in found]
    heads = ("TIME", "WHO", "KIND", "VERB", "OBJECT", "DECISION", "REASON")
    text: list[str | Table] = []
    for log, records in found:
        rows = tuple(_cells(one) for one in records)
        text += [Table(heads, rows, title=_name(log)) if rows else f"{_name(log)}: no records", ""]
    return Report(data=data, text=text[:-1])


def _logs(path: Path | None) -> list[Path]:
    from flpoc.audit.checking import find_logs

    if path is None:
        from flpoc.configuration import Configuration, poc_workspace

        path = poc_workspace(Configuration.load())
    return find_logs(path.expanduser())


def _name(log: Path) -> str:
    """What people call a log: the service whose state it is in."""
    return log.absolute().parent.name if log.name == "audit" else str(log)


def _data(verdict: Verdict) -> dict[str, Any]:
    fault = verdict.fault
    return {
        "log": str(verdict.log),
        "intact": fault is None,
        "records": verdict.records,
        "first_time": verdict.first or None,
        "last_time": verdict.last or None,
        "head": verdict.head or None,
        "fault": {"file": str(fault.file), "line": fault.line, "problem": fault.problem} if fault else None,
    }


def _lines(verdict: Verdict) -> Iterator[str]:
    count = f"{verdict.records} record{'' if verdict.records == 1 else 's'}"
    if (fault := verdict.fault) is None:
        yield f"{_name(verdict.log)}: ok, {count}"
    else:
        line = f", line {fault.line}" if fault.line else ""
        yield f"{_name(verdict.log)}: NOT INTACT after {count}"
        yield f"  {fault.file}{line}: {fault.problem}"
    if verdict.records:
        yield f"  from {verdict.first} to {verdict.last}"
        yield f"  head {verdict.head}"


def _record(one: Record) -> dict[str, Any]:
    import attrs

    decision = one.decision
    return {
        "seq": one.seq,
        "time": one.time,
        "principal": attrs.asdict(decision.principal),
        "verb": decision.verb,
        "object": decision.object,
        "decision": decision.outcome,
        "reason": decision.reason,
        "hash": one.hash,
    }


def _cells(one: Record) -> tuple[str, ...]:
    decision = one.decision
    who = decision.principal
    kind = f"{who.role} @ {who.org}" if who.role else who.kind
    cells = (one.time, who.name, kind, decision.verb, decision.object, decision.outcome, decision.reason)
    return tuple(cell or "-" for cell in cells)
