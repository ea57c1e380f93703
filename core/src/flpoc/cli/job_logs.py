"""``flpoc job logs``: what a job's processes wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import click

from flpoc.cli import suggest
from flpoc.cli.command import Command
from flpoc.cli.connect import Connection, connects, job_argument
from flpoc.cli.options import Number, option
from flpoc.formatting import Report

_COUNT = Number(int, low=0, high=2**62)
_LINE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)\s+"
    r"(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)\s+(?P<logger>[\w.]+)\s+(?P<message>.*)",
    re.DOTALL,
)


@click.command(
    "logs",
    cls=Command,
    examples=("flpoc job logs ID", "flpoc job logs ID --site all --tail 50"),
    mutating=False,
    idempotent=True,
)
@job_argument
@option("--site", "--sites", "site", metavar="NAME", default="server", show_default=True,
        shell_complete=suggest.server_and_sites, help="server, a site's name, or all.")  # fmt: skip
@option("--tail", type=_COUNT, default=None, metavar="N", help="Only the last N lines.")
@option("--since", metavar="TIME", default="", help="Only lines from this ISO 8601 time on; without a zone it is UTC.")
@option("--max-bytes", type=_COUNT, default=None, metavar="N", help="Only the first N bytes of what is left.")
@connects
def logs(  # noqa: PLR0917 - click gives them by name
    connection: Connection, job_id: str, site: str, tail: int | None, since: str, max_bytes: int | None
) -> Report:
    """Show the logs of a job, as far as they have reached the server.

    Without any bound, the last 500 lines of each site are shown.
    """
    _check(site, since)
    with connection.open() as session:
        found = session.get_job_logs(job_id, site, tail=tail, since=since, max_bytes=max_bytes)
    texts: Mapping[str, str] = found["logs"]
    sites = {name: _with_records(facts, texts.get(name)) for name, facts in found["sites"].items()}
    gone = {name: facts["reason"] for name, facts in sites.items() if not facts["available"]}
    text = list(_sections(texts)) if site == "all" else [_content(one) for one in texts.values()]
    data = {**found, "sites": sites}
    if gone:
        data["unavailable"] = gone
    warnings = [f"{name}: {why}" for name, why in gone.items()]
    if site == "server" and not any(texts.values()):
        warnings.append("The controller has written nothing; --site all shows what the sites wrote.")
    return Report(data=data, text=text or ("(no log content)",), warnings=warnings)


def _check(site: str, since: str) -> None:
    """Refuse what no server could answer, before one is asked."""
    import datetime

    from flpoc.errors import UsageError
    from flpoc.jobs.names import SITE_NAME

    if site not in ("server", "all") and not SITE_NAME.match(site):
        raise UsageError(f"--site: {site[:80]!r} is not the name of a site", hint="server, all, or a site's name")
    if since:
        try:
            datetime.datetime.fromisoformat(since.strip().replace(",", ".").replace("Z", "+00:00"))
        except ValueError:
            raise UsageError(
                f"--since: {since[:80]!r} is not an ISO 8601 time", hint="for example 2026-01-31T12:00:00Z"
            ) from None


def _sections(texts: Mapping[str, str]) -> list[str]:
    lines: list[str] = []
    for number, (name, text) in enumerate(texts.items()):
        lines += ["", f"== {name} =="] if number else [f"== {name} =="]
        lines.append(_content(text))
    return lines


def _content(text: str) -> str:
    return text.rstrip("\n") or "(no log content)"


def _with_records(facts: Mapping[str, Any], text: str | None) -> dict[str, Any]:
    return {**facts, "records": records(text)} if text is not None else dict(facts)


def records(text: str) -> list[dict[str, Any]]:
    """The lines of a log as objects; what is no log line belongs to the one before, or stands alone."""
    found: list[dict[str, Any]] = []
    for line in text.splitlines():
        if match := _LINE.fullmatch(line):
            found.append(match.groupdict())
        elif found and found[-1]["time"] is not None and line[:1].isspace():
            found[-1]["message"] += f"\n{line}"
        else:
            found.append({"time": None, "level": None, "logger": None, "message": line})
    return found
