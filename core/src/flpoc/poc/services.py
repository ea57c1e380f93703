"""The server and the sites of a workspace as processes: launched, found again, ended.

Before a service is launched, its name is written to
``state/poc/handles/NAME.json``; after it, its handle. So whoever comes later
finds it, even if the command that launched it was killed in between.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from flpoc.errors import FlpocError, LaunchError, PluginError, UsageError, did_you_mean
from flpoc.jobs.attempts import SHORT
from flpoc.jobs.shortcuts import Shortcuts
from flpoc.launching import Handle, Launcher, LaunchRequest, Mount, Needs
from flpoc.poc.attributed import Attributed
from flpoc.poc.workspace import DATA, DEFAULT_STUDY, OWN_STATE, POC_DATA, STATE, Workspace

if TYPE_CHECKING:
    from flpoc.plugins import Plugins

T = TypeVar("T")
R = TypeVar("R")

CONSOLE_LOG: Final = "poc_console.log"
#: Name that always means the server, whatever the project calls it.
SERVER: Final = "server"
#: Name that means every service.
ALL: Final = "all"
#: How long a service may take to stop its jobs before it is killed.
GRACE: Final = 6.0
#: How long a job process may take that its owner has left behind.
JOB_GRACE: Final = 1.0
_AT_ONCE: Final = 16
_LARGEST_TAIL: Final = 1 << 16


@attrs.frozen
class Service:
    """A service that was launched, or was about to be.

    Attributes:
        name: The participant.
        handle: How to find its process; None when its launch was interrupted.
    """

    name: str
    handle: Handle | None


class Services:
    """The processes of one workspace."""

    def __init__(self, folder: Path, plugins: Plugins, workspace: Workspace | None = None) -> None:
        """Take the workspace itself where services are to be launched; to stop them its *folder* is enough."""
        self._folder = folder
        self._handles = folder / STATE / OWN_STATE / "handles"
        self._plugins = plugins
        self._workspace = workspace
        self._launchers: dict[str, Launcher] = {}
        self._log_begins: dict[str, int] = {}

    def launcher(self, name: str) -> Launcher:
        """Give a launcher by name, set as the workspace says.

        Raises:
            PluginError: It is not installed; says what it has launched here.
        """
        if name not in self._launchers:
            ours = self._workspace is not None and name == self._workspace.project.launcher
            settings = self._workspace.marker.launcher_settings if self._workspace is not None and ours else {}
            try:
                plugin = self._plugins.find("launchers", name).plugin.name
                self._launchers[name] = Attributed(name, plugin, self._plugins.create("launchers", name, settings))
            except PluginError as error:
                raise self._without(name, error) from None
        return self._launchers[name]

    def _without(self, name: str, error: PluginError) -> PluginError:
        """The same error with what it means here: what was launched and can now be neither found nor stopped."""
        launched = {key: one.handle for key, one in self.recorded().items() if one.handle}
        launched |= {path.stem: handle for path in self._all_job_records() if (handle := _job_handle(path))}
        theirs = {key: handle for key, handle in launched.items() if handle.launcher == name}
        left = some([f"{key} (pid {handle.pid})" if handle.pid else key for key, handle in theirs.items()])
        may = f"; what it launched may still run: {left}" if theirs else ""
        return PluginError(
            f"the POC in {self._folder} uses the launcher {name!r}, which cannot be used{may}: {error.message}",
            hint=f"install it again, then repeat this; {error.hint}",
            code=error.code,
            data={"launcher": name, "launched": {key: handle.pid for key, handle in theirs.items()}},
        )

    # -- what there is

    def recorded(self) -> dict[str, Service]:
        """All services that were launched and not yet stopped, by name."""
        found = {}
        for path in sorted(self._handles.glob("*.json")):
            record = _read(path)
            if record is not None:
                handle = record.get("handle")
                found[path.stem] = Service(path.stem, Handle(**handle) if handle else None)
        return found

    def running(self) -> dict[str, Service]:
        """The services that run now; one whose launch was interrupted counts, for it may."""
        return {name: one for name, one in self.recorded().items() if one.handle is None or self.is_running(one.handle)}

    def is_running(self, handle: Handle) -> bool:
        return self.launcher(handle.launcher).poll(handle).running

    def last_lines(self, name: str, handle: Handle, count: int) -> list[str]:
        """The last lines that a service wrote, of this launch if it was made by this object."""
        text = ""
        if self._workspace is not None and name in self._log_begins:
            text = _text_from(self._workspace.kit(name) / CONSOLE_LOG, self._log_begins[name])
        text = text or self.launcher(handle.launcher).logs(handle, tail=count)
        return [line for line in text.splitlines() if line.strip()][-count:]

    # -- start

    def launch(self, name: str, gpus: Sequence[str] | None = None) -> Handle:
        """Start a service, or find the one that runs.

        Raises:
            LaunchError: It could not be started; nothing of it is left.
        """
        workspace = self._workspace
        assert workspace is not None
        chosen = workspace.project.launcher
        self._record(name, None)
        log = workspace.kit(name) / CONSOLE_LOG
        self._log_begins[name] = log.stat().st_size if log.is_file() else 0
        try:
            handle = self.launcher(chosen).launch(_request(workspace, name, gpus, self.launcher(chosen)))
        except FlpocError:
            self._path(name).unlink(missing_ok=True)
            raise
        self._record(name, handle)
        return handle

    def _record(self, name: str, handle: Handle | None) -> None:
        self._handles.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(name)
        part = path.with_suffix(".part")
        record = {"name": name, "handle": attrs.asdict(handle) if handle else None}
        part.write_text(json.dumps(record), encoding="utf-8")
        part.replace(path)

    def _path(self, name: str) -> Path:
        return self._handles / f"{name}.json"

    # -- stop

    def stop(self, names: Collection[str]) -> None:
        """End services and every job process that they have left; returns when nothing of them lives.

        Raises:
            LaunchError: Something cannot be ended.
        """
        recorded = self.recorded()
        at_once([one for name, one in recorded.items() if name in names], self._stop_service)
        jobs = [path for name in names for path in self.job_records(name)]
        at_once(jobs, self._stop_job)
        for name in names:
            Shortcuts(self._folder / STATE / name / SHORT).drop()

    def stop_all(self) -> None:
        """End everything that was ever launched here, also for participants that are no more in the project."""
        states = [one.name for one in (self._folder / STATE).glob("*") if one.name != OWN_STATE]
        self.stop({*states, *self.recorded()})

    def _stop_service(self, one: Service) -> None:
        handle = one.handle or self._interrupted(one.name)
        if handle is not None:
            launcher = self.launcher(handle.launcher)
            launcher.stop(handle, grace=GRACE)
            if launcher.poll(handle).running:
                raise LaunchError(f"{one.name} still runs (pid {handle.pid})", hint="try again; see its log")
        self._path(one.name).unlink(missing_ok=True)

    def _interrupted(self, name: str) -> Handle | None:
        """Find a service whose launch was interrupted: launching the same name is the same launch."""
        if self._workspace is None or not self._workspace.kit(name).is_dir():
            return None
        launcher = self.launcher(self._workspace.project.launcher)
        try:
            return launcher.launch(_request(self._workspace, name, None, launcher))
        except LaunchError:
            return None  # what cannot be started does not run either

    def job_records(self, name: str) -> list[Path]:
        """The records of job processes that a service has not yet seen the end of."""
        return sorted((self._folder / STATE / name / "handles").glob("*.json"))

    def running_jobs(self) -> list[str]:
        """Names of the job processes that run, whether or not their owner does."""
        handles = {path.stem: _job_handle(path) for path in self._all_job_records()}
        return [name for name, handle in handles.items() if handle is not None and self.is_running(handle)]

    def _all_job_records(self) -> list[Path]:
        found = sorted((self._folder / STATE).glob("*/handles/*.json"))
        return [path for path in found if path.parent != self._handles]

    def _stop_job(self, path: Path) -> None:
        handle = _job_handle(path)
        if handle is not None:
            launcher = self.launcher(handle.launcher)
            launcher.stop(handle, grace=JOB_GRACE)
            if launcher.poll(handle).running:
                raise LaunchError(f"the job process {path.stem} still runs (pid {handle.pid})", hint="try again")
        path.unlink(missing_ok=True)


def at_once(items: Iterable[T], act: Callable[[T], R]) -> list[R]:
    """Do the same for all items at the same time; the first failure is raised once all are done."""
    items = list(items)
    if len(items) < 2:
        return [act(one) for one in items]
    with ThreadPoolExecutor(min(_AT_ONCE, len(items))) as pool:
        running = [pool.submit(act, one) for one in items]
    return [one.result() for one in running]


def choose(workspace: Workspace, only: str = "", exclude: str = "") -> list[str]:
    """Name the services that a command is about.

    Raises:
        UsageError: A name is not that of a service.
    """
    known = [one.name for one in workspace.services]
    chosen = known if only in ("", ALL) else [_service_name(workspace, known, only)]
    without = _service_name(workspace, known, exclude) if exclude else ""
    return [name for name in chosen if name != without]


def _service_name(workspace: Workspace, known: list[str], name: str) -> str:
    if name in known:
        return name
    if name == SERVER:
        return workspace.project.server.name
    data = {"services": known}
    users = [user.name for user in workspace.project.users]
    if name in users:
        message = f"{name} is a user: users have no service that could be started or stopped"
        raise UsageError(message, hint=f"services: {', '.join(known)}", data=data)
    guess = did_you_mean(name, [*known, *users], " ").strip()
    hint = f"{guess} services: {some(known)}; users, who have consoles: {some(users)}".strip()
    raise UsageError(f"the project has no participant {name!r}", hint=hint, data=data)


def some(names: Sequence[str]) -> str:
    """Name a few, and say how many there are."""
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:5])} ... {names[-1]} ({len(names)})"


def _request(workspace: Workspace, name: str, gpus: Sequence[str] | None, launcher: Launcher) -> LaunchRequest:
    kit, state = workspace.kit(name), workspace.state / name
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    data = str(workspace.folder / DATA)
    kind = "server" if name == workspace.project.server.name else "site"
    unique = hashlib.sha256(os.fsencode(workspace.folder)).hexdigest()[:8]
    return LaunchRequest(
        name=f"{workspace.project.name}.{name}.{unique}",
        argv=(launcher.python(), "-m", f"flpoc.{kind}", str(kit), "--state", str(state)),
        workdir=str(kit),
        state=str(workspace.state / OWN_STATE / "launches"),
        log=str(kit / CONSOLE_LOG),
        env=_environment(gpus),
        mounts=(
            Mount(str(kit), str(kit), writable=True),
            Mount(str(state), str(state), writable=True),
            Mount(data, launcher.data_path(DEFAULT_STUDY, POC_DATA, data), writable=True),
        ),
        host=name,
        ports=(workspace.project.port,) if kind == "server" else (),
        needs=Needs(gpus=tuple(dict.fromkeys(gpus or ()))),
        labels={"project": workspace.project.name, "participant": name, "workspace": str(workspace.folder)},
    )


def _environment(gpus: Sequence[str] | None) -> dict[str, str]:
    found = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.environ.get("HOME") or str(Path.home()),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "TMPDIR": tempfile.gettempdir(),
        "PYTHONUNBUFFERED": "1",
    }
    return found if gpus is None else {**found, "CUDA_VISIBLE_DEVICES": ",".join(dict.fromkeys(gpus))}


def _text_from(log: Path, offset: int) -> str:
    """The end of a log, from *offset* at the earliest; empty when it cannot be read or was rotated since."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(offset, end - _LARGEST_TAIL))
            return file.read(_LARGEST_TAIL).decode(errors="replace")
    except OSError:
        return ""


def _read(path: Path) -> Mapping[str, Any] | None:
    """A record; None when it is gone meanwhile, or no record."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else None
    return None


def _job_handle(path: Path) -> Handle | None:
    record = _read(path)
    handle = record.get("handle") if record else None
    return Handle(**handle) if handle else None
