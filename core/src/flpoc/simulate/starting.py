"""Starting a simulation in a process of its own, and waiting for it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flpoc.errors import InternalError, from_code
from flpoc.jobs.processes import environment

if TYPE_CHECKING:
    from flpoc.simulate.order import Order, Trial
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
    trial: Trial | None = None,
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
        trial: Run the first rounds alone, to see what scripts send.

    Raises:
        FlpocError: The job or an argument is wrong; nothing was run.
    """
    told = progress or _ignore
    with contextlib.nullcontext() if in_process else _engine() as engine:
        from flpoc.simulate.order import Order, groups_of, mode_of, root, secrets_of

        where = root(workspace)
        order = Order(
            folder=str(Path(folder).absolute()),
            sites=tuple(sites),
            workers=workers or 0,
            workspace=str(where),
            gpus=groups_of(gpus),
            log_config=mode_of(log_config),
            datasets={name: str(Path(path).absolute()) for name, path in (datasets or {}).items()},
            secrets=secrets_of(Path(folder)),
            backend=backend,
            backend_settings=dict(backend_settings or {}),
            trial=trial,
        )
        return _here(order, told) if engine is None else engine.follow(order, told)


def _here(order: Order, told: Progress) -> Outcome:
    """Simulate in this thread."""
    if "numpy" not in sys.modules:  # it reads them once
        os.environ.update({key: value for key, value in _environment().items() if key.endswith("_THREADS")})
    from flpoc.simulate.engine import simulate
    from flpoc.simulate.inline import InlinePool

    return simulate(order, told, pool=InlinePool, in_process=True)


def _ignore(number: int, rounds: int, metrics: Mapping[str, float]) -> None:
    """Nobody wants to know."""


class _Engine:
    """The process that simulates."""

    def __init__(self, process: subprocess.Popen[bytes], log: Any) -> None:
        self._process, self._log = process, log
        self._ordered = False

    def close(self) -> None:
        """End it if it has nothing to do; otherwise it ends by itself."""
        if not self._ordered:
            self._process.kill()
            self._process.communicate()

    def follow(self, order: Order, progress: Progress) -> Outcome:
        """Have it simulate, and wait for the end."""
        from flpoc.jobs.states import Cause
        from flpoc.settings import plain, structure
        from flpoc.simulate.outcome import Outcome

        said = self._said(json.dumps(plain(order)).encode() + b"\n", progress)
        if "error" in said:
            error = said["error"]
            raise from_code(error["code"], error["message"], error["hint"], error["data"])
        if "state" not in said:
            self._log.seek(0)
            tail = self._log.read().decode(errors="replace").splitlines()[-_LAST_LINES:]
            raise InternalError(f"the simulation ended with {self._process.returncode}: {' | '.join(tail[-3:])}")
        cause = structure(said["cause"], Cause) if said["cause"] is not None else None
        return Outcome(said["name"], said["state"], cause, Path(said["results"]), said["partial_allowed"])

    def _said(self, order: bytes, progress: Progress) -> dict[str, Any]:
        """Give it an order; gives what it says last."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        said: dict[str, Any] = {}
        self._ordered = True
        with process:
            try:
                with contextlib.suppress(BrokenPipeError):  # it has ended, and says why
                    process.stdin.write(order)
                    process.stdin.flush()
                for line in process.stdout:
                    said = json.loads(line)
                    if "round" in said:
                        progress(said["round"], said["rounds"], said["metrics"])
            finally:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()  # it ends all workers, and then itself
        return said


@contextlib.contextmanager
def _engine() -> Iterator[_Engine]:
    """A process that waits for its order: it can import what it needs while the order is checked."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "flpoc.simulate"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=_environment(),
            start_new_session=True,  # an interrupt from the terminal is this process's to tell
        )
        with contextlib.closing(_Engine(process, log)) as engine:
            yield engine


def _environment() -> dict[str, str]:
    """That of a job process; but nothing is isolated, so the user's own folders are where they are."""
    from flpoc.launching import Needs

    kept = ("HOME", "TMPDIR", "PYTHONPATH", "FLPOC_HOME", "FLPOC_CONFIG")
    own = {key: os.environ[key] for key in kept if key in os.environ}
    made = environment(Path(), Needs())
    return {key: value for key, value in made.items() if key not in ("HOME", "TMPDIR")} | own
