"""``flpoc job check``: a job is looked at, and tried, before anybody submits it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from flpoc.cli.call import Call
from flpoc.cli.command import Command
from flpoc.cli.options import option
from flpoc.cli.progress import Progress
from flpoc.errors import JobError, UsageError
from flpoc.formatting import Report, Table

if TYPE_CHECKING:
    from flpoc.jobs.spec import JobSpec
    from flpoc.simulate.repeating import Difference

_CURRENT: Final = "./current_job"
#: In the second one, scripts may depend on what they have done in the first.
_ROUNDS: Final = 2
_HINT: Final = (
    "draw all chance from flare.get_seed(), in every round; keep what must last from round to round in "
    "flare.state_dir(), not in memory"
)


@click.command(
    cls=Command,
    examples=("flpoc job check -j my-job", "flpoc job check -j my-job --repeat"),
    mutating=False,
    idempotent=True,
)
@option(
    "-j", "--job-folder", "--job_folder", "job_folder", metavar="DIR", default=_CURRENT, bare=_CURRENT,
    show_default=True, help="The job's folder, or a folder with exactly one job in it.",
)  # fmt: skip
@option("--repeat", is_flag=True, help="Run the first two rounds twice, and compare what scripts send.")
@option("-c", "--clients", words=True, metavar="NAME",
        help="Sites of these runs; also with commas.  [default: the job's]")  # fmt: skip
@click.pass_obj
def check(call: Call, *, job_folder: str, repeat: bool, clients: tuple[str, ...]) -> Report:
    """Check a job as `flpoc job submit` does, without a server.

    With `--repeat`, virtual sites on this machine run its first two rounds
    twice: once as in a real run, once with scripts that are started anew for
    every task, as after a crash. Every update must have the same bits, or the
    model would depend on more than the job. The first differences are shown.
    """
    from flpoc.server.components import check_components
    from flpoc.simulate.order import read

    if clients and not repeat:
        raise UsageError("--clients is for --repeat: nothing is run without it", hint="add --repeat")
    folder, spec = read(Path(job_folder).expanduser())
    check_components(call.plugins, spec)
    data: dict[str, Any] = {"job_name": spec.name, "folder": str(folder), "repeated": None, "differences": []}
    if not repeat:
        return Report(data=data, text=(f"Job {spec.name}: nothing is wrong.",))
    sites = tuple(name for word in clients for name in word.split(",") if name)
    return _compared(spec, data, _tried_twice(folder, spec, sites))


def _tried_twice(folder: Path, spec: JobSpec, sites: tuple[str, ...]) -> list[Difference]:
    """Run the first rounds twice.

    Raises:
        JobError: A run has failed: its first cause.
    """
    from flpoc.recipe.ending import failure
    from flpoc.simulate import run
    from flpoc.simulate.order import Trial
    from flpoc.simulate.repeating import differences

    rounds = min(_ROUNDS, spec.rounds)
    with tempfile.TemporaryDirectory(prefix="flpoc-check-") as temporary, Progress("check", 2 * rounds) as bar:
        folders = [Path(temporary) / name for name in ("first", "second")]
        for place, updates in enumerate(folders):
            updates.mkdir()

            def progress(done: int, _: int, __: Mapping[str, float], before: int = place * rounds) -> None:
                bar.update(done=before + done + 1)

            outcome = run(
                folder, sites=sites, workspace=temporary, progress=progress,
                trial=Trial(rounds, str(updates), anew=place > 0),
            )  # fmt: skip
            error = failure(spec.name, outcome.state, outcome.cause, outcome.results, partial_allowed=True)
            if error is not None:
                raise JobError(error.message, code=error.code, hint=f"`flpoc simulator {folder}` runs it, and has logs")
        return differences(*folders)


def _compared(spec: JobSpec, data: dict[str, Any], found: list[Difference]) -> Report:
    rounds = min(_ROUNDS, spec.rounds)
    data = {**data, "repeated": rounds, "differences": [attrs.asdict(one) for one in found]}
    if not found:
        said = "round" if rounds == 1 else f"{rounds} rounds"
        return Report(
            data=data, text=(f"Job {spec.name}: repeated, the first {said}: all updates have the same bits.",)
        )
    rows = tuple((one.site, one.tensor or "-", one.what, _largest(one)) for one in found)
    first = f"Job {spec.name}: repeated, round {found[0].round + 1} gives other updates:"
    return Report(
        data=data, text=(first, Table(("site", "tensor", "what differs", "at most by"), rows)),
        exit_status=1, code="JOB_NOT_REPEATABLE", hint=_HINT,
    )  # fmt: skip


def _largest(one: Difference) -> str:
    return "-" if one.largest is None else f"{one.largest:.3g}"
