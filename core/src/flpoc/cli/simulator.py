"""``flpoc simulator``: a job with virtual sites on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from flpoc.cli.command import Command
from flpoc.cli.job_text import metrics_text, seconds_text
from flpoc.cli.options import Number, option
from flpoc.cli.progress import Progress
from flpoc.errors import UsageError
from flpoc.formatting import Report

if TYPE_CHECKING:
    from flpoc.simulate import Outcome

_COUNT = Number(int, low=1, high=1_000_000)


@click.command(
    "simulator",
    cls=Command,
    examples=("flpoc simulator my-job -n 2", "flpoc simulator my-job -n 8 -t 2 -w results"),
    mutating=True,
    idempotent=True,
)
@click.argument("job_folder", type=click.Path())
@option(
    "-w", "--workspace", metavar="DIR",
    help="Where the folder of results goes.  [default: FLPOC_SIMULATOR_WORKSPACE_ROOT, else /tmp/flpoc/simulation]",
)  # fmt: skip
@option("-n", "--n-clients", "number", type=_COUNT, help="How many sites: site-1, site-2, ...  [default: the job's]")
@option("-c", "--clients", words=True, metavar="NAME", help="Names of the sites, instead of -n; also with commas.")
@option("-t", "--threads", type=_COUNT,
        help="How many processes.  [default: one a site for up to 32 sites, else one a processor]")  # fmt: skip
@option("-gpu", "--gpu", metavar="IDS", help="Graphics processors of the processes: 0,1 or in groups [0,1],[2].")
@option(
    "-l", "--log-config", metavar="MODE", help="Level or mode of the scripts' logs, or a file for Python's logging."
)
@option("-m", "--max-clients", type=_COUNT, help="Refuse more sites than this.")
@option("-b", "--backend", metavar="NAME", help="Which installed simulator performs the tasks instead of processes.")
@click.option("-debug", "--debug", is_flag=True,
              help="Run everything in this process, one site after the other: breakpoints work.")  # fmt: skip
def simulator(
    *,
    job_folder: str,
    workspace: str | None,
    number: int | None,
    clients: tuple[str, ...],
    threads: int | None,
    gpu: str | None,
    log_config: str | None,
    max_clients: int | None,
    backend: str | None,
    debug: bool,
) -> Report:
    """Run a job with virtual sites on this machine, without a server, and wait for its end.

    The job is the one that is submitted: same workflow, same scripts, same
    results. Nothing is isolated: scripts run with your rights. The exit
    status says how the job ended, as that of `flpoc job wait` does.
    """
    from flpoc.simulate import run

    sites = _sites(number, clients)
    if max_clients is not None and len(sites) > max_clients:
        raise UsageError(f"{len(sites)} sites, {max_clients} at most", hint="give a larger -m, or fewer sites")
    began = time.monotonic()
    seen = _Seen()
    with Progress("simulation") as bar:

        def progress(done: int, rounds: int, metrics: Mapping[str, float]) -> None:
            seen.see(done, rounds, metrics)
            bar.update(title=seen.title(), done=done + 1, total=rounds)

        outcome = run(
            Path(job_folder).expanduser(), sites=sites, workers=threads, workspace=workspace, gpus=gpu or "",
            log_config=log_config, in_process=debug, backend=backend or "", progress=progress,
        )  # fmt: skip
    return _report(outcome, time.monotonic() - began)


def _sites(number: int | None, clients: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(name for word in clients for name in word.split(",") if name)
    if names and number is not None and number != len(names):
        raise UsageError(f"-n says {number} sites, -c names {len(names)}", hint="leave one of them out")
    return names or tuple(f"site-{place}" for place in range(1, (number or 0) + 1))


@attrs.define
class _Seen:
    """What the bar says."""

    done: int = 0
    rounds: int = 0
    metrics: Mapping[str, float] = attrs.field(factory=dict)

    def see(self, done: int, rounds: int, metrics: Mapping[str, float]) -> None:
        self.done, self.rounds, self.metrics = done, rounds, metrics

    def title(self) -> str:
        return f"round {self.done + 1} of {self.rounds}  {metrics_text(self.metrics)}".rstrip()


def _report(outcome: Outcome, seconds: float) -> Report:
    from flpoc.jobs.states import JobState
    from flpoc.jobs.states import outcome as judged

    code, exit_status = judged(JobState(outcome.state), outcome.cause, outcome.partial_allowed)
    about = outcome.summary()
    said = metrics_text(about["metrics"])
    first = f"Job {outcome.name}: {outcome.state} after {seconds_text(seconds)}" + (f"  {said}" if said else "")
    data: dict[str, Any] = {
        "job_id": outcome.name,
        "status": outcome.state,
        "duration_s": round(seconds, 3),
        "results": str(outcome.results),
        **about,
        "cause": attrs.asdict(outcome.cause) if outcome.cause is not None else None,
    }
    cause = outcome.cause.lines() if outcome.cause is not None else []
    text = (first, *cause, f"Results: {outcome.results}")
    hint = f"logs are in {outcome.results / 'logs'}" if code else ""
    return Report(data=data, text=text, exit_status=exit_status, code=code, hint=hint)
