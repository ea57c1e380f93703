"""``flpoc job wait | monitor``: following a job until it has ended."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress

import click

from flpoc.cli.command import Command, Record
from flpoc.cli.connect import Connection, connects, job_argument
from flpoc.cli.job_follow import Follower
from flpoc.cli.job_look import Look, Pace
from flpoc.cli.options import Number, option
from flpoc.cli.progress import Progress
from flpoc.errors import DeadlineError, FlpocError
from flpoc.formatting import Report
from flpoc.session import Session

_TIMEOUT = Number(float, low=0, high=1e9)
_INTERVAL = Number(float, low=0, above=True, high=1e6)


_timeout = option(
    "--timeout", type=_TIMEOUT, default=0, show_default=True, metavar="SEC", help="Give up after SEC seconds; 0: never."
)
_interval = option(
    "--interval",
    type=_INTERVAL,
    default=2,
    show_default=True,
    metavar="SEC",
    help="How often progress is shown at most.",
)


@click.command("wait", cls=Command, examples=("flpoc job wait ID --timeout 600",), mutating=False, idempotent=True)
@job_argument
@_timeout
@_interval
@option("--metric", "metrics", metavar="KEY", multiple=True, help="Show this metric, too.")
@connects
def wait(connection: Connection, job_id: str, timeout: float, interval: float, metrics: tuple[str, ...]) -> Report:
    """Wait until a job has ended; the exit status says how.

    A server that is restarted meanwhile is waited for.
    """
    look = Look(wanted=metrics)
    try:
        with (
            _said_how_to_go_on(connection, job_id),
            connection.open() as session,
            Progress(f"job {job_id}") as bar,
            Follower(session, job_id, timeout) as follower,
        ):
            connection.call.note_if_watched(f"Waiting for job {job_id} in study {connection.study}.")
            for meta in follower.metas():
                if meta is None:
                    bar.update(title="the server is away; waiting for it")
                    continue
                look.see(meta)
                bar.update(title=look.title(), done=look.rounds_done, total=meta.get("rounds_total"))
    except DeadlineError as error:
        if error.code != "TIMEOUT":
            raise
        return look.too_late(error, timeout)
    return look.final()


@click.command(
    "monitor",
    cls=Command,
    examples=("flpoc job monitor ID", "flpoc job monitor ID --format jsonl"),
    mutating=False,
    idempotent=True,
    streaming=True,
)
@job_argument
@_timeout
@_interval
@option("--stats-target", type=click.Choice(["server", "client", "all"]), default="server", show_default=True,
        help="Whose metrics are shown: the means over the sites, those of each site, or both.")  # fmt: skip
@option("--metric", "metrics", metavar="KEY", multiple=True, help="Show this metric, too.")
@connects
def monitor(  # noqa: PLR0917 - click gives them by name
    connection: Connection, job_id: str, timeout: float, interval: float, stats_target: str, metrics: tuple[str, ...]
) -> Generator[Record, None, Report]:
    """Follow a job round by round until it has ended; the exit status says how.

    With ``--format jsonl`` every step is a JSON object on a line of its own;
    the last one has ``"terminal": true``.
    """
    look = Look(wanted=metrics, target=stats_target)
    try:
        yield from _follow(connection, job_id, timeout, look, Pace(interval))
    except DeadlineError as error:
        if error.code != "TIMEOUT":
            raise
        return look.too_late(error, timeout)
    return look.final(look.news(), stream=connection.call.formatter.streams)


def _follow(
    connection: Connection, job_id: str, timeout: float, look: Look, pace: Pace
) -> Generator[Record, None, None]:
    with (
        _said_how_to_go_on(connection, job_id),
        connection.open() as session,
        Progress(f"job {job_id}") as bar,
        Follower(session, job_id, timeout) as follower,
    ):
        for meta in follower.metas(pace.patience):
            if meta is None and follower.away:
                connection.call.note("The server is away; waiting for it to come back.")
            elif meta is not None:
                look.see(meta)
                bar.update(title=look.title(), done=look.rounds_done, total=meta.get("rounds_total"))
            if look.meta and pace.may_speak(look):
                _look_at_sites(session, look)
                yield Record(look.record(), "\n".join(look.news()))
                pace.said(look)


def _look_at_sites(session: Session, look: Look) -> None:
    """See the sites' own numbers, where they are wanted; a job that has just ended has none any more."""
    if look.target == "server" or look.status != "RUNNING":
        return
    with suppress(FlpocError):
        look.see_sites(session.show_stats(str(look.meta["job_id"]))["stats"])


@contextmanager
def _said_how_to_go_on(connection: Connection, job_id: str) -> Iterator[None]:
    """Tell whoever presses Ctrl-C that only the watching ends."""
    try:
        yield
    except KeyboardInterrupt:
        again = f"To watch it again: flpoc job monitor {job_id}. To end it: flpoc job abort {job_id}."
        connection.call.part(f"The job goes on. {again}")
        raise
