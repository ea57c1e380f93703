"""Starting a simulation in a process of its own, and waiting for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flpoc.errors import InternalError, from_code
from flpoc.jobs.attempts import environment
from flpoc.jobs.states import Cause
from flpoc.launching import Needs
from flpoc.settings import plain, structure
from flpoc.simulate.order import Order, groups_of, mode_of, root
from flpoc.simulate.outcome import Outcome

#: Told of a round: its number, the number of rounds, and its metrics.
Progress = Callable[[int, int, Mapping[str, float]], None]
_LAST_LINES = 20


def run(
    folder: Path,
    *,
    sites: Sequence[str] = (),
    workers: int | None = None,
    workspace: Path | str | None = None,
    gpus: str | Sequence[str] = "",
    log_config: str | None = None,
    in_process: bool = False,
    datasets: Mapping[str, str] | None = None,
    backend: str = "",
    backend_settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Simulate a job and wait for its end.

    Args:
        folder: The job folder.
        sites: Names of the sites that there are; none: those that the job names, else as many as it needs, at least 2.
        workers: How many processes at most. With one for each site, a site's script runs once, as in a real run; with
            fewer, it is started anew for every task. None: one for each of up to 32 sites, else one a processor.
        workspace: The folder that gets a folder of results named after the job; None: what
            FLPOC_SIMULATOR_WORKSPACE_ROOT says, or /tmp/flpoc/simulation.
        gpus: Graphics processors for the workers, dealt in turn: ``0,1``, or groups: ``[0,1],[2]``.
        log_config: Level or mode of the scripts' logs, see :mod:`flpoc.log_modes`; or a file with settings of Python's
            logging: the dictionary of :func:`logging.config.dictConfig`, in JSON, YAML or HOCON.
        in_process: Run everything in this thread, one site after the other, so that breakpoints work.
        datasets: Paths of what scripts get by ``flare.get_dataset(name)``, by name.
        backend: Name of an installed simulator that performs the tasks instead of processes of this machine.
        backend_settings: Its settings.
        progress: Told of every round.

    Raises:
        FlpocError: The job or an argument is wrong; nothing was run.
    """
    where = root(workspace)
    order = Order(
        folder=str(Path(folder).absolute()),
        sites=tuple(sites),
        workers=workers or 0,
        workspace=str(where),
        gpus=groups_of(gpus),
        log_config=mode_of(log_config),
        datasets={name: str(Path(path).absolute()) for name, path in (datasets or {}).items()},
        backend=backend,
        backend_settings=dict(backend_settings or {}),
    )
    told = progress or _ignore
    if in_process:
        if "numpy" not in sys.modules:  # it reads them once
            os.environ.update({key: value for key, value in _environment(order).items() if key.endswith("_THREADS")})
        from flpoc.simulate.engine import simulate
        from flpoc.simulate.inline import InlinePool

        return simulate(order, told, pool=InlinePool, in_process=True)
    with tempfile.TemporaryFile() as log:
        return _follow(_start(order, log), told, log)


def _ignore(number: int, rounds: int, metrics: Mapping[str, float]) -> None:
    """Nobody wants to know."""


def _start(order: Order, log: Any) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "flpoc.simulate"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=_environment(order),
        start_new_session=True,  # an interrupt from the terminal is this process's to tell
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(plain(order)).encode() + b"\n")
    process.stdin.flush()
    return process


def _environment(order: Order) -> dict[str, str]:
    """That of a job process; but nothing is isolated, so the user's own folders are where they are."""
    kept = ("HOME", "TMPDIR", "PYTHONPATH", "FLPOC_HOME", "FLPOC_CONFIG")
    own = {key: os.environ[key] for key in kept if key in os.environ}
    made = environment(Path(order.workspace), Needs())
    return {key: value for key, value in made.items() if key not in ("HOME", "TMPDIR")} | own


def _follow(process: subprocess.Popen[bytes], progress: Progress, log: Any) -> Outcome:
    assert process.stdout is not None
    assert process.stdin is not None
    said: dict[str, Any] = {}
    with process:
        try:
            for line in process.stdout:
                said = json.loads(line)
                if "round" in said:
                    progress(said["round"], said["rounds"], said["metrics"])
        finally:
            process.stdin.close()  # it ends all workers, and then itself
    if "error" in said:
        error = said["error"]
        raise from_code(error["code"], error["message"], error["hint"], error["data"])
    if "state" not in said:
        log.seek(0)
        tail = log.read().decode(errors="replace").splitlines()[-_LAST_LINES:]
        raise InternalError(f"the simulation ended with {process.returncode}: {' | '.join(tail[-3:])}")
    cause = structure(said["cause"], Cause) if said["cause"] is not None else None
    return Outcome(said["name"], said["state"], cause, Path(said["results"]), said["partial_allowed"])
