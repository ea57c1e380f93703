"""Containers of a Docker engine, each with a keeper beside it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import docker
import requests
from docker.errors import APIError, NotFound

from flpoc.errors import LaunchError
from flpoc.launching import Handle, Launcher, LaunchRequest, State, Status, check_request
from flpoc.tails import last_lines
from flpoc_builtin_docker import keeper
from flpoc_builtin_docker.containers import creation, host_config
from flpoc_builtin_docker.engine import (
    ANSWER_SECONDS,
    AWAY,
    PYTHON_LABEL,
    address_of,
    asking,
    check_socket,
    client,
    image_of,
)
from flpoc_builtin_docker.networks import joining, leave, network_of
from flpoc_builtin_docker.owners import hand_over
from flpoc_builtin_docker.programs import SHELL, find_program, has_shell
from flpoc_builtin_docker.pulling import fetch
from flpoc_builtin_docker.records import (
    Ref,
    container_name,
    locked,
    locked_if_free,
    make_folders,
    prune,
    stem,
)
from flpoc_builtin_docker.settings import DockerSettings

#: Seconds in which an engine must answer whoever does not wait.
_AT_ONCE = 5.0
#: Seconds that an engine may be away before what it ran counts as lost.
_ENGINE_AWAY, _TRY_GAP = 60.0, 0.5
#: Seconds that killed containers may take to go.
_KILLED_SECONDS = 60.0


class DockerLauncher(Launcher):
    """Starts containers that outlive whoever started them."""

    has_images = True

    def __init__(self, settings: DockerSettings | None = None) -> None:
        self._settings = settings or DockerSettings()
        self._engine = address_of(self._settings)

    # -- starting

    def launch(self, request: LaunchRequest) -> Handle:
        """Start a container beside a keeper, or give the handle of what runs under this name.

        Raises:
            LaunchError: There is no engine or no image, or the container cannot be made or started.
        """
        check_request(request)
        image = request.image or self._settings.image
        if not Path(request.workdir).is_dir():
            raise LaunchError(
                f"{request.name}: cannot work in {request.workdir}: no such folder",
                hint="make this folder, or name another",
            )
        if request.network == "open":
            check_socket(self._engine, request.name)
        make_folders(request)
        api = client(self._engine)
        with locked(Path(request.state) / f"{stem(request.name)}.lock"), asking(self._engine, request.name, image):
            if running := self._running(api, request):
                return running.handle
            prune(Path(request.state), request.name)
            ref = self._start(api, request, image)
        keeper.start(ref)
        return ref.handle

    def _running(self, api: docker.APIClient, request: LaunchRequest) -> Ref | None:
        """What runs under this name; what has ended under it is cleared away."""
        try:
            found = api.inspect_container(container_name(request))
        except NotFound:
            return None
        network = found["HostConfig"]["NetworkMode"]
        ref = self._ref(request, found["Id"], found["Config"]["Image"], "" if network == "none" else network)
        if found["State"]["Running"]:
            return ref
        with locked(ref.path("keeper")):
            keeper.note_end(api, ref, found)
            keeper.remove(api, ref)
        return None

    def _ref(self, request: LaunchRequest, ident: str, image: str, network: str) -> Ref:
        return Ref(
            ident,
            self._engine,
            request.name,
            request.state,
            request.log,
            request.log_limit,
            image,
            request.needs.memory_gib,
            network,
        )

    def _start(self, api: docker.APIClient, request: LaunchRequest, image: str) -> Ref:
        """Make a container and start it; if that fails, nothing of it is left."""
        hand_over(request, self._settings)
        network = network_of(request, self._settings)
        # until it is made it has no id; its name is as good
        ref = self._ref(request, container_name(request), image, network)
        try:
            with joining(api, network, request.state):
                ref = attrs.evolve(ref, id=self._create(api, request, ref))
            find_program(api, ref, request)
            api.start(ref.id)
        except BaseException:
            with contextlib.suppress(APIError, requests.exceptions.RequestException, OSError):
                with contextlib.suppress(NotFound):
                    api.remove_container(ref.id, v=True, force=True)
                leave(api, ref)
            raise
        return ref

    def _create(self, api: docker.APIClient, request: LaunchRequest, ref: Ref) -> str:
        host = api.create_host_config(**host_config(request, self._settings, self._engine, ref.network or "none"))
        more = {}
        if ref.network and request.host:
            endpoint = api.create_endpoint_config(aliases=[request.host])
            more["networking_config"] = api.create_networking_config({ref.network: endpoint})
        for shell in (SHELL, ""):
            what = creation(request, self._settings, ref.image, through=shell)
            made = str(api.create_container(name=ref.id, host_config=host, **what, **more)["Id"])
            if not shell or has_shell(api, attrs.evolve(ref, id=made)):
                break
            api.remove_container(made, v=True, force=True)
        return made

    # -- looking

    def poll(self, handle: Handle) -> Status:
        """Say how it is, at once."""
        ref = Ref.parse(handle)
        if ref is None:
            return Status(State.EXITED, None, "this is not a handle of the docker launcher")
        return self._look(ref, _AT_ONCE) or self._away(ref)

    def _away(self, ref: Ref) -> Status:
        return Status(State.EXITED, None, f"the Docker engine at {ref.engine} does not answer")

    def _look(self, ref: Ref, seconds: float = ANSWER_SECONDS) -> Status | None:
        """How a container is; None when the engine does not answer."""
        known = ref.ended()
        if known and ref.is_removed():
            return known
        try:
            api = client(ref.engine, seconds)
            found = api.inspect_container(ref.id)
            if found["State"]["Running"]:
                return Status(State.RUNNING)
            with locked_if_free(ref.path("keeper")) as ours:
                if not ours:  # its keeper is at work, or has just been
                    return ref.ended() or Status(State.RUNNING)
                known = keeper.note_end(api, ref, found)
                if ref.ended():
                    with contextlib.suppress(*AWAY, requests.exceptions.Timeout, APIError):  # a stop would say so
                        keeper.remove(api, ref)
                return known
        except NotFound:
            return ref.ended() or Status(State.EXITED, None, "its container is gone")
        except (*AWAY, requests.exceptions.Timeout, APIError, LaunchError):
            return known

    def wait(self, handle: Handle, timeout: float) -> Status:
        """Wait until the engine says that it has ended; an engine that is away is waited for, too."""
        ref = Ref.parse(handle)
        if ref is None:
            return self.poll(handle)
        end = time.monotonic() + timeout
        away_since = None
        while True:
            status = self._look(ref)
            left = end - time.monotonic()
            if status is None:
                now = time.monotonic()
                away_since = away_since or now
                if now - away_since > _ENGINE_AWAY or left <= 0:
                    return self._away(ref) if now - away_since > _ENGINE_AWAY else Status(State.RUNNING)
                time.sleep(min(_TRY_GAP, left))  # an engine that is away announces nothing when it comes back
                continue
            away_since = None
            if not status.running or left <= 0:
                return status
            self._await(ref, left)

    def _await(self, ref: Ref, seconds: float) -> None:
        """Return when the container has ended and its keeper is done, or when the time is over."""
        if not _has_keeper(ref):
            keeper.start(ref)
        if self._await_end(ref, seconds):
            with locked(ref.path("keeper")):
                return

    def _await_end(self, ref: Ref, seconds: float) -> bool:
        try:
            client(ref.engine).wait(ref.id, timeout=max(0.01, seconds))
        except (*AWAY, requests.exceptions.Timeout, APIError):
            return False
        return True

    # -- ending

    def stop(self, handle: Handle, *, grace: float = 10.0) -> None:
        """Send SIGTERM to its first process, and kill the container after *grace* seconds.

        Raises:
            LaunchError: The engine does not answer, or cannot end it.
        """
        ref = Ref.parse(handle)
        if ref is None or ref.is_removed():
            return
        api = client(ref.engine)
        with asking(ref.engine, handle.name):
            if ref.ended() is None:
                self._end(api, ref, grace)
            # its keeper, which may be removing it, holds the lock only as long as the engine answers
            api.ping()
            with locked(ref.path("keeper")):
                if not ref.is_removed():
                    self._clear(api, ref)

    def _end(self, api: docker.APIClient, ref: Ref, grace: float) -> None:
        for number in ("SIGTERM", "SIGCONT"):  # a paused process hears SIGTERM only when it goes on
            _signal(api, ref, number)
        if grace <= 0 or not self._await_end(ref, grace):
            _signal(api, ref, "SIGKILL")
            self._await_end(ref, _KILLED_SECONDS)

    def _clear(self, api: docker.APIClient, ref: Ref) -> None:
        """Remove what is left of a container that has ended."""
        with contextlib.suppress(NotFound):
            found = api.inspect_container(ref.id)
            if found["State"]["Running"]:
                raise LaunchError(
                    f"{ref.name}: container {ref.id[:12]} does not end, not even by SIGKILL",
                    hint="it probably waits for a disk or a device; see `docker top`",
                )
            keeper.note_end(api, ref, found)
        keeper.remove(api, ref)

    def logs(self, handle: Handle, *, tail: int = 200) -> str:
        """Give the last *tail* lines of its log, also across the rotation."""
        ref = Ref.parse(handle)
        return last_lines(Path(ref.log), tail) if ref else ""

    # -- where what it launches finds itself

    def make_ready(self, say: Callable[[str], None]) -> Mapping[str, Any]:
        """Find the engine, and fetch the image if it is not there.

        Raises:
            LaunchError: There is no engine, or not on this machine, or no such image.
        """
        check_socket(self._engine, "docker")
        here = "`flpoc image build` makes one here"
        fetch(client(self._engine, None), self._settings.image, self._engine, say, what="docker", otherwise=here)
        return {"engine": self._engine, "image": self._settings.image}

    def python(self, image: str = "") -> str:
        """The interpreter that the settings or the image's label name, else ``python3``."""
        if self._settings.python:
            return self._settings.python
        image = image or self._settings.image
        found = image_of(client(self._engine), image, "docker", self._engine)
        labels = (found.get("Config") or {}).get("Labels") or {}
        return str(labels.get(PYTHON_LABEL) or "python3")

    def address(self, host: str) -> str:
        """Its name: services share a network in which the engine knows their names."""
        return host

    def data_path(self, study: str, name: str, source: str) -> str:
        """``/data/STUDY/NAME``."""
        return f"/data/{study}/{name}"


def _has_keeper(ref: Ref) -> bool:
    with locked_if_free(ref.path("keeper")) as free:
        return not free


def _signal(api: docker.APIClient, ref: Ref, number: str) -> None:
    try:
        api.kill(ref.id, number)
    except NotFound:
        return
    except APIError as error:
        if error.status_code != requests.codes.conflict:  # it is not running
            raise
