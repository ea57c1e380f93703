"""Stopping the services of a proof of concept, and knowing that nothing of them is left."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flpoc.errors import FlpocError, ServiceError
from flpoc.formatting import Report
from flpoc.poc.consoles import Console, chosen_users, end_consoles
from flpoc.poc.services import Services, choose, some
from flpoc.poc.workspace import OWN_STATE, Workspace, locked, open_workspace

if TYPE_CHECKING:
    from flpoc.plugins import Plugins

#: How long a server that is to be stopped anyway is asked which jobs run: it may be busy with them.
_ASK_SECONDS: Final = 5.0
_LOG: Final = "stop.log"


def stop(
    folder: Path, *, plugins: Plugins, only: str = "", exclude: str = "", wait: bool = True, connect: bool = True
) -> Report:
    """Stop services and every process that belongs to them; what has ended already is fine.

    Running jobs are not aborted: the next start goes on with them.

    Args:
        folder: The workspace.
        plugins: What is installed.
        only: Name of the one participant to stop; empty for all.
        exclude: Name of a participant that goes on.
        wait: Return only when nothing is left; without it, a process of its own does the work.
        connect: Ask the server which jobs are running, to report them.

    Raises:
        UsageError: There is no such workspace or participant.
        LaunchError: A process cannot be ended.
        ServiceError: Something still runs after all.
    """
    began = time.monotonic()
    with locked(folder.resolve()) as lock:
        workspace = open_workspace(folder)
        services = Services(workspace.folder, plugins, workspace)
        users = chosen_users(workspace, only, exclude)
        names = _chosen_services(workspace, only, exclude)
        if only == "" and exclude == "":
            names += [name for name in services.recorded() if name not in names]  # of participants taken out since
        running = [name for name in names if name in services.running()]
        left = [path.stem for name in names for path in services.job_records(name)]
        jobs = _active_jobs(workspace, running) if connect else None
        if not wait and (running or left):
            _stop_elsewhere(workspace, names, lock)
        else:
            services.stop(names)  # also what seems to have ended: nobody knows where, say, an engine does not answer
            verify(services, names)
        consoles = end_consoles(workspace.folder, users)
    data = _data(workspace, names, running, jobs, consoles=consoles, left=left, wait=wait, began=began)
    return Report(data=data, text=_text(data))


def _chosen_services(workspace: Workspace, only: str, exclude: str) -> list[str]:
    """A user has no service, only consoles."""
    users = [one.name for one in workspace.project.users]
    if only in users:
        return []
    return choose(workspace, only, "" if exclude in users else exclude)


def _active_jobs(workspace: Workspace, running: Sequence[str]) -> list[str] | None:
    """Ids of the jobs that the server runs; None when it cannot be asked."""
    if workspace.project.server.name not in running or workspace.admin_kit is None:
        return None
    from flpoc.session import Session

    with contextlib.suppress(FlpocError), Session.open(workspace.admin_kit, timeout=_ASK_SECONDS) as session:
        return [str(job) for job in session.status().get("active_jobs", [])]
    return None


def verify(services: Services, names: Sequence[str]) -> None:
    """Make sure that nothing of these services is left.

    Raises:
        ServiceError: Something is.
    """
    left = sorted(name for name in services.running() if name in names)
    left += [path.stem for name in names for path in services.job_records(name)]
    if left:
        raise ServiceError(f"still there after the stop: {', '.join(left)}", hint="run `flpoc poc stop` again")


def _stop_elsewhere(workspace: Workspace, names: Sequence[str], lock: int) -> None:
    """Let a process of its own do it; it inherits the lock, so whatever comes next waits for it."""
    argv = [sys.executable, "-m", "flpoc.poc", str(workspace.folder), *names]
    log = workspace.state / OWN_STATE / _LOG
    with log.open("ab") as output, open("/dev/null", "rb") as nothing:  # noqa: PTH123 - a device
        # not waited for on purpose: it outlives this command and belongs to the system then
        process = subprocess.Popen(
            argv, stdin=nothing, stdout=output, stderr=output, cwd="/", pass_fds=(lock,), start_new_session=True
        )
    process.returncode = 0  # so that its end, which is not ours to see, gives no warning


def _data(
    workspace: Workspace,
    names: Sequence[str],
    running: Sequence[str],
    jobs: list[str] | None,
    *,
    consoles: Sequence[Console],
    left: Sequence[str],
    wait: bool,
    began: float,
) -> dict[str, Any]:
    under_way = not wait and bool(running or left)
    state = {name: "stopping" if under_way and name in running else "stopped" for name in names}
    status = "shutdown_initiated" if under_way else "stopped"
    shutdown = {
        "status": status,
        "wait": wait,
        "no_wait": not wait,
        "server_reachable": jobs is not None,
        "already_stopped": not (running or left or consoles),
        "active_job_ids": jobs or [],
        "active_jobs_aborted": False,
    }
    return {
        **shutdown,
        "workspace": str(workspace.folder),
        "stopped": list(running),
        "job_processes_ended": list(left),
        "consoles": [{"user": one.user, "pid": one.pid} for one in consoles],
        "services": state,
        "elapsed_s": round(time.monotonic() - began, 3),
        "shutdown": shutdown,
    }


def _text(data: dict[str, Any]) -> list[str]:
    if data["already_stopped"]:
        return ["Nothing runs."]
    lines = [f"Ended the console of {one['user']} (pid {one['pid']})." for one in data["consoles"]]
    left = data["job_processes_ended"]
    if ended := data["stopped"] or ([f"{len(left)} job processes that were left"] if left else []):
        what = "Stopping" if data["status"] == "shutdown_initiated" else "Stopped"
        lines.append(f"{what}: {some(ended)} ({data['elapsed_s']:.1f} s)")
    if data["active_job_ids"]:
        lines.append(f"The next start goes on with: {some(data['active_job_ids'])}")
    return lines
