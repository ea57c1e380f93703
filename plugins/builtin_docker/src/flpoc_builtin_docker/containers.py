"""What the engine is asked for: a request as the settings of a container."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from docker.types import DeviceRequest, LogConfig, Mount, Ulimit

from flpoc.errors import LaunchError
from flpoc.launching import LaunchRequest, State, Status
from flpoc.launching import Mount as Wanted
from flpoc_builtin_docker.engine import socket_of
from flpoc_builtin_docker.owners import user_of
from flpoc_builtin_docker.records import Ref, labels_of
from flpoc_builtin_docker.settings import DockerSettings

_GIB = 1 << 30
#: Exit codes above this are those of the end by a signal.
_SIGNALS_FROM = 128


def mounts_of(request: LaunchRequest, engine: str) -> list[Wanted]:
    """What it sees of the host: its mounts and its working folder; a service also the engine's socket.

    Raises:
        LaunchError: A mount holds a folder that must not be seen.
    """
    mounts = list(request.mounts)
    workdir = Path(request.workdir)
    if not any(one.writable and workdir.is_relative_to(one.target) for one in mounts):
        mounts = [one for one in mounts if Path(one.target) != workdir]
        mounts.append(Wanted(request.workdir, request.workdir, writable=True))
    socket = socket_of(engine)
    if request.network == "open" and socket and Path(socket).exists():
        mounts.append(Wanted(socket, socket, writable=True))
    for one in mounts:
        source = Path(one.source).resolve()
        for folder in request.hidden:
            if Path(folder).resolve().is_relative_to(source):
                raise LaunchError(
                    f"{request.name}: {one.source} holds {folder}, which it must not see",
                    hint="grant a folder that holds none of the owner's keys and state",
                )
    return list(dict.fromkeys(mounts))


def host_config(request: LaunchRequest, settings: DockerSettings, engine: str, network: str) -> dict[str, Any]:
    """Arguments of ``create_host_config``: what the container may and may not."""
    needs = request.needs
    config: dict[str, Any] = {
        "mounts": [Mount(one.target, one.source, "bind", not one.writable) for one in mounts_of(request, engine)],
        "network_mode": network,
        "read_only": True,
        "tmpfs": {"/tmp": "rw,nosuid,nodev,mode=1777"},  # noqa: S108 - in the container, and gone with it
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "init": True,
        "pids_limit": settings.pids,
        "shm_size": int(settings.shm_gib * _GIB),
        "ulimits": [Ulimit(name="core", soft=0, hard=0)],
        # what the engine itself keeps; the keeper copies it into the log of the request
        "log_config": LogConfig(
            type="local", config={"max-size": str(max(request.log_limit, 1 << 16)), "max-file": "2"}
        ),
    }
    if request.network != "open":
        config["nano_cpus"] = int(needs.cpus * 1e9)
    if needs.memory_gib:
        config["mem_limit"] = config["memswap_limit"] = int(needs.memory_gib * _GIB)
    if needs.gpus:
        config["device_requests"] = [DeviceRequest(device_ids=list(needs.gpus), capabilities=[["gpu"]])]
    if request.ports:
        config["port_bindings"] = {port: ("127.0.0.1", port) for port in request.ports}
    socket = socket_of(engine)
    if request.network == "open" and socket and Path(socket).exists():
        config["group_add"] = [str(Path(socket).stat().st_gid)]
    return config


def creation(request: LaunchRequest, settings: DockerSettings, image: str, *, through: str) -> dict[str, Any]:
    """Arguments of ``create_container`` besides its host's.

    Run *through* a shell, output and errors are one stream: the engine reads two apart, and their order would be lost.
    """
    return {
        "image": image,
        "entrypoint": [through, "-c", 'exec "$@" 2>&1', through] if through else [],
        "command": list(request.argv),
        "working_dir": request.workdir,
        "environment": [f"{key}={value}" for key, value in request.env.items()],
        "user": user_of(settings),
        "labels": labels_of(request),
        "hostname": request.host or None,
        "ports": list(request.ports) or None,
        "stdin_open": False,
        "tty": False,
    }


def status_of(state: dict[str, Any], ref: Ref, last_line: str) -> Status:
    """How a container ended, as the engine tells it."""
    code = int(state.get("ExitCode", -1))
    if state.get("Status") == "created":
        return Status(State.EXITED, None, str(state.get("Error") or "") or "it was never started")
    if code > _SIGNALS_FROM and code - _SIGNALS_FROM in {one.value for one in signal.Signals}:
        code = _SIGNALS_FROM - code
    elif code == 255 and state.get("Error"):
        return Status(State.EXITED, None, str(state["Error"]))
    return Status(State.EXITED, code, _reason(code, state, ref, last_line))


def _reason(code: int, state: dict[str, Any], ref: Ref, last_line: str) -> str:
    if state.get("OOMKilled") and code != 0:
        limit = f"its limit is {ref.memory_gib:g} GiB" if ref.memory_gib else "the machine has no more"
        return f"killed: out of memory ({limit})"
    if code == -signal.SIGKILL:
        return "its container was killed: by somebody, or by the end of the Docker engine"
    if "No module named 'flpoc'" in last_line or "No module named flpoc" in last_line:
        return f"the image {ref.image} has no flpoc: `flpoc image build --base {ref.image}` adds it"
    return str(state.get("Error") or "")
