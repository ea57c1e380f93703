"""Starting the services of a proof of concept, and knowing that they are ready."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from flpoc.errors import ConnectionFailed, DeadlineError, KitError, ServiceError, UsageError
from flpoc.formatting import Report
from flpoc.launching import Handle
from flpoc.poc.checks import said_of_plugins
from flpoc.poc.gpus import assign_gpus, host_gpus
from flpoc.poc.preparing import port_preflight
from flpoc.poc.services import CONSOLE_LOG, Services, at_once, choose, some
from flpoc.poc.workspace import PROJECT_FILE, Workspace, locked, open_workspace

if TYPE_CHECKING:
    from flpoc.plugins import Plugins

READY_TIMEOUT: Final = 30.0
_LAST_LINES: Final = 10
#: Within so many lines a service has said which plugins it could not load.
_FIRST_LINES: Final = 200
#: How often a thread that waits for the end of a process looks whether anybody still wants to know.
_WATCH_SECONDS: Final = 1.0


@attrs.define
class _Launched:
    """What a start found and did."""

    workspace: Workspace
    services: Services
    names: Sequence[str]
    handles: dict[str, Handle]
    already: dict[str, int]
    gpus: Mapping[str, list[str]]
    preflight: Mapping[str, Any]
    began: float

    @property
    def new(self) -> list[str]:
        return [name for name in self.names if name not in self.already]

    def begin_anew(self, name: str) -> None:
        """Start what has ended since it was found running."""
        del self.already[name]
        with locked(self.workspace.folder):
            self.handles[name] = self.services.launch(name, self.gpus.get(name))

    @property
    def server(self) -> str:
        return self.workspace.project.server.name

    @property
    def sites(self) -> list[str]:
        return [name for name in self.names if name != self.server]


def start(
    folder: Path,
    *,
    plugins: Plugins,
    only: str = "",
    exclude: str = "",
    gpus: Sequence[str] | None = None,
    study: str = "",
    wait: bool = True,
    timeout: float = READY_TIMEOUT,
    port: int = 0,
) -> Report:
    """Start the server and the sites of a workspace; what runs already is left alone.

    Args:
        folder: The workspace.
        plugins: What is installed.
        only: Name of the one participant to start; empty for all.
        exclude: Name of a participant to leave out.
        gpus: Ids of graphics processors for the sites; None deals what the machine has.
        study: Has no effect on services.
        wait: Return only when every participant has answered.
        timeout: How long to wait for that, in seconds.
        port: Move the proof of concept to this port first; 0: it keeps the one it has.

    Raises:
        UsageError: There is no such workspace, participant or graphics processor; or it is to be moved while it runs.
        ServiceError: The port is taken, or a service ended before it was ready.
        LaunchError: A process could not be started.
        ConnectionFailed: Not all was ready in time.
    """
    began = time.monotonic()
    try:
        with locked(folder.resolve()):
            workspace = open_workspace(folder)
            moved_from = workspace.project.port if port not in (0, workspace.project.port) else None
            if moved_from is not None:
                workspace = _moved(workspace, port, plugins)
            names = choose(workspace, only, exclude)
            if not names:
                raise UsageError("there is nothing left to start", hint="leave out -ex, or name another")
            launched = _launch(workspace, Services(workspace.folder, plugins, workspace), names, gpus, began)
    except UsageError as error:
        unasked = {"port_conflict": False, "port_preflight": _unchecked("nothing was started"), "warnings": []}
        raise UsageError(error.message, hint=error.hint, data={**unasked, **(error.data or {})}) from None
    warnings = [f"--study {study} has no effect on server and sites; it is for consoles."] if study else []
    warnings += _gpus_in_vain(launched) if gpus else []
    server_runs = launched.server in launched.handles or launched.server in launched.services.running()
    ready = False
    if wait and not server_runs:
        warnings.append(f"{launched.server} does not run: sites connect when it does (`flpoc poc start`).")
    elif wait and workspace.admin_kit is None:
        warnings.append("The project has no user: nobody can ask whether all is ready.")
    elif wait:
        _wait(launched, workspace.admin_kit, timeout)
        ready = True
        warnings += _plugin_troubles(launched)
    data = _data(launched, wait=wait, timeout=timeout, ready=ready, warnings=warnings)
    data["moved_from"] = moved_from
    return Report(data=data, text=_text(data), warnings=warnings)


def _moved(workspace: Workspace, port: int, plugins: Plugins) -> Workspace:
    """Give a proof of concept that is stopped another port; the project says so last, so that a kill is made good."""
    from flpoc.provision.moving import move_kits
    from flpoc.provision.project_file import write_project

    services = Services(workspace.folder, plugins, workspace)
    if runs := sorted(services.running()) or services.running_jobs():
        raise UsageError(f"the POC runs and keeps its port: {some(runs)}", hint="stop it first: flpoc poc stop")
    moved = attrs.evolve(workspace, project=attrs.evolve(workspace.project, port=port))
    _preflight(moved, moved.project.server.name, check=True)
    try:
        move_kits(moved.project, moved.folder, moved.prod, plugins=plugins)
    except KitError as error:
        raise UsageError(error.message, hint=error.hint) from None
    write_project(moved.project, moved.folder / PROJECT_FILE)
    return moved


def _launch(
    workspace: Workspace, services: Services, names: list[str], gpus: Sequence[str] | None, began: float
) -> _Launched:
    """Start what does not run yet; if one cannot be started, none of this call stays."""
    server = workspace.project.server.name
    handles = {name: one.handle for name, one in services.running().items() if one.handle is not None}
    running = {name: handles[name] for name in names if name in handles}
    new = [name for name in names if name not in running]
    dealt = _deal(workspace, [name for name in names if name != server], gpus)
    preflight = _preflight(workspace, server, check=server in new)
    try:
        started = dict(zip(new, at_once(new, lambda name: services.launch(name, dealt.get(name))), strict=True))
    except BaseException:
        services.stop(new)
        raise
    already = {name: handle.pid for name, handle in running.items()}
    return _Launched(workspace, services, names, {**running, **started}, already, dealt, preflight, began)


def _deal(workspace: Workspace, sites: list[str], gpus: Sequence[str] | None) -> dict[str, list[str]]:
    """Deal what the machine has to all sites of the project, so that one started later gets the same; or as asked."""
    if gpus is not None and not gpus:
        return {}
    to = sites if gpus is not None else [site.name for site in workspace.project.sites]
    return assign_gpus(to, gpus, host_gpus())


def _preflight(workspace: Workspace, server: str, *, check: bool) -> dict[str, Any]:
    """Look whether the server's port is free, if the server is to be started."""
    port = workspace.project.port
    if not check:
        return _unchecked(f"{server} is not started by this command")
    found = port_preflight(port)
    if found["conflicts"]:
        from flpoc.ports import next_free

        message = f"port {port} of {server} is {found['ports'][0]['reason']}"
        warning = f"{message}; nothing was started"
        raise ServiceError(
            message,
            hint=f"end that program, or move the POC to another port: flpoc poc start --port {next_free(port + 1)}",
            data={
                "port_conflict": True,
                "port_preflight": found,
                "conflicts": found["conflicts"],
                "warnings": [warning],
            },
        )
    return found


def _unchecked(why: str) -> dict[str, Any]:
    return {"checked": False, "ports": [], "conflicts": [], "note": why}


def _gpus_in_vain(launched: _Launched) -> list[str]:
    """Say where graphics processors were asked for, and cannot be given."""
    if not launched.sites:
        return ["-gpu has no effect: no site is started."]
    already = [site for site in launched.sites if site in launched.already]
    return [f"-gpu has no effect on what runs already: {some(already)}"] if already else []


def _wait(launched: _Launched, kit: Path | None, timeout: float) -> None:
    """Return when every participant has answered, or raise as soon as that cannot be any more."""
    assert kit is not None
    until = time.monotonic() + timeout
    news: queue.SimpleQueue[Any] = queue.SimpleQueue()
    over = threading.Event()

    def ask() -> None:
        from flpoc.session import Session

        try:
            with Session.open(kit, timeout=timeout) as session:
                session.wait_ready(launched.sites, max(0.1, until - time.monotonic()))
            news.put(None)
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            news.put(error)

    def watch(name: str) -> None:
        handle = launched.handles[name]
        launcher = launched.services.launcher(handle.launcher)
        while not over.is_set():
            if not launcher.wait(handle, _WATCH_SECONDS).running:
                news.put(name)
                return

    threading.Thread(target=ask, daemon=True, name="ask whether all is ready").start()
    for name in launched.names:
        threading.Thread(target=watch, args=(name,), daemon=True, name=f"watch {name}").start()
    try:
        first = news.get(timeout=timeout + 5.0)
        while isinstance(first, str) and first in launched.already:
            # it was just ending when it was found running
            launched.begin_anew(first)
            threading.Thread(target=watch, args=(first,), daemon=True, name=f"watch {first}").start()
            first = news.get(timeout=max(0.1, until - time.monotonic()) + 5.0)
    except queue.Empty:
        first = DeadlineError(f"not ready after {timeout:g} s")
    finally:
        over.set()
    if isinstance(first, str):
        raise _ended_early(launched, first)
    if first is not None:
        raise _not_ready(launched, first)


def _plugin_troubles(launched: _Launched) -> list[str]:
    """Repeat what services that were just started say of plugins that they could not load."""
    said: dict[str, list[str]] = {}
    for name in launched.new:
        for trouble in said_of_plugins(launched.services.last_lines(name, launched.handles[name], _FIRST_LINES)):
            said.setdefault(trouble, []).append(name)
    return [f"{some(names)}: {trouble}" for trouble, names in said.items()]


def _ended_early(launched: _Launched, name: str) -> ServiceError:
    """Undo this start, and say why: the last lines of the service that ended."""
    handle = launched.handles[name]
    status = launched.services.launcher(handle.launcher).poll(handle)
    lines = launched.services.last_lines(name, handle, _LAST_LINES)
    log = launched.workspace.kit(name) / CONSOLE_LOG
    launched.services.stop(launched.new)
    # somebody may have taken the port since it was found free
    preflight = port_preflight(launched.workspace.project.port) if name == launched.server else launched.preflight
    conflicts = list(preflight["conflicts"])
    taken = f"; port {launched.workspace.project.port} is {preflight['ports'][0]['reason']}" if conflicts else ""
    how = status.reason or (f"exit code {status.code}" if status.code is not None else "exit code unknown")
    said = "".join(f"\n  {line}" for line in lines) or "\n  (it wrote nothing)"
    data = {
        "service": name,
        "exit_code": status.code,
        "log": str(log),
        "log_tail": lines,
        "stopped": launched.new,
        "port_conflict": bool(conflicts),
        "conflicts": conflicts,
        "port_preflight": dict(preflight),
    }
    return ServiceError(
        f"{name} ended before it was ready ({how}{taken}); its last lines:{said}",
        hint=f"see {log}; what this command had started was stopped again",
        data=data,
    )


def _not_ready(launched: _Launched, error: Exception) -> Exception:
    """The error for a start that took too long; the services go on."""
    if not isinstance(error, (ConnectionFailed, DeadlineError)):
        return error
    data = error.data if isinstance(error.data, dict) else {}
    missing = data.get("missing", [])
    logs = [str(launched.workspace.kit(name) / CONSOLE_LOG) for name in (missing or [launched.server])]
    seconds = time.monotonic() - launched.began
    return ConnectionFailed(
        f"not ready: {error.message}",
        hint=f"the services still run: see {logs[0]}; `flpoc poc start --timeout SEC` waits longer, "
        "`flpoc poc stop` stops them",
        data={"missing": missing, "logs": logs, "ready": False, "elapsed_s": round(seconds, 3), "port_conflict": False},
    )


def _data(launched: _Launched, *, wait: bool, timeout: float, ready: bool, warnings: list[str]) -> dict[str, Any]:
    workspace = launched.workspace
    port = workspace.project.port
    return {
        "status": "running" if ready else "starting",
        "workspace": str(workspace.folder),
        "server_url": f"grpcs://{workspace.address}",
        "server_address": workspace.address,
        "admin_address": workspace.address,
        "port": port,
        "default_port": port,
        "default_server_port": port,
        "default_admin_port": port,
        "wait": wait,
        "no_wait": not wait,
        "ready_timeout": timeout,
        "ready": ready,
        "clients": launched.sites,
        "started": {name: launched.handles[name].pid for name in launched.new},
        "already_running": dict(launched.already),
        "services": dict.fromkeys(launched.names, "running"),
        "gpus": {site: list(ids) for site, ids in launched.gpus.items() if site in launched.new},
        "console_logs": {name: str(workspace.kit(name) / CONSOLE_LOG) for name in launched.names},
        "port_conflict": False,
        "port_preflight": dict(launched.preflight),
        "elapsed_s": round(time.monotonic() - launched.began, 3),
        "warnings": list(warnings),
    }


def _text(data: dict[str, Any]) -> list[str]:
    names = list(data["services"])
    already = [f"{name} (pid {pid})" for name, pid in data["already_running"].items()]
    lines = [f"Already running: {some(already)}"] if already else []
    if data["moved_from"]:
        lines.append(f"Moved:   from port {data['moved_from']} to {data['port']}; copies of kits have to be made anew")
    if data["started"]:
        lines.append(f"Started: {some(list(data['started']))}")
    lines += [f"{site} has GPU {', '.join(ids)}" for site, ids in data["gpus"].items()]
    lines.append(f"Server:  {data['server_url']}")
    log = data["console_logs"][names[0]]
    lines.append(f"Logs:    {Path(log).parent.parent}/NAME/{CONSOLE_LOG}" if len(names) > 1 else f"Log:     {log}")
    if data["ready"]:
        lines.append(f"Ready after {data['elapsed_s']:.1f} s. Next: flpoc job submit -j DIR")
    else:
        lines.append(f"Not ready yet after {data['elapsed_s']:.1f} s; `flpoc poc start` waits until it is.")
    return lines
