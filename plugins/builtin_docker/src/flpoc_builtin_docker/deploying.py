"""A startup kit for another machine that has Docker and nothing else."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any, Literal

import attrs

from flpoc.errors import ConfigError, KitError, PluginError, UsageError
from flpoc.provision.kit_settings import LOCAL, POLICY, STARTUP, TRANSFER
from flpoc.provision.kits import Kit, load_kit
from flpoc.settings import read_file, structure
from flpoc_builtin_docker.records import NAME
from flpoc_builtin_docker.settings import OWN_IMAGE, DockerSettings, image_name

SCRIPT, COMPOSE = "start_docker.sh", "compose.yaml"
#: Where the service keeps its state, as both say.
STATE = "state"

_SCRIPT = """\
#!/bin/sh
# Starts {kind} {name} in a container, in the network that FLPOC_NETWORK names, else one of its own for the project.
# Further words are handed on to `docker run`, e.g.  ./start_docker.sh --add-host {server}:10.0.0.5
# It is ended by `docker rm --force {container}`.
set -eu
KIT=$(cd "$(dirname "$0")" && pwd -P)
ENGINE=${{DOCKER_HOST:-unix:///var/run/docker.sock}}
SOCKET=${{ENGINE#unix://}}
if [ "$SOCKET" = "$ENGINE" ]; then
    echo "{name}: DOCKER_HOST is $ENGINE; wanted is a socket of this machine, e.g. unix:///var/run/docker.sock" >&2
    exit 2
fi
if ! docker version >/dev/null 2>&1; then
    echo "{name}: no Docker engine answers at $ENGINE: start it, or add this user to the group docker" >&2
    exit 2
fi
if [ "$(docker inspect -f '{{{{.State.Running}}}}' {container} 2>/dev/null)" = true ]; then
    echo "{name}: runs already"
    exit 0
fi
if ! docker image inspect {image} >/dev/null 2>&1; then
    echo "{name}: fetching {image}" >&2
    docker pull {image}
fi
NETWORK=${{FLPOC_NETWORK:-{network}}}
docker network inspect "$NETWORK" >/dev/null 2>&1 || docker network create "$NETWORK" >/dev/null
mkdir -p -m 700 "$KIT/state"
WHO=$(id -u):$(id -g)
if [ "$(id -u)" = 0 ]; then  # nothing runs as root in a container
    WHO=10000:10000
    chown -hR "$WHO" "$KIT"
fi
docker rm {container} >/dev/null 2>&1 || true
exec docker run --detach --name {container} --restart unless-stopped --init \\
    --network "$NETWORK" --network-alias {name} \\
    --label org.flpoc.project={project} --label org.flpoc.participant={name} \\
    --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --pids-limit {pids} \\
    --user "$WHO" --group-add "$(stat -c %g "$SOCKET")" \\
    -e "DOCKER_HOST=$ENGINE" -e "HOME=$KIT/state" -v "$SOCKET:$SOCKET" -v "$KIT:$KIT" {publish}\\
    "$@" {image} python3 -m flpoc.{kind} "$KIT" --state "$KIT/state"
"""

_COMPOSE = """\
# {kind} {name}. Start it in this folder, as its owner (not root):
#     FLPOC_USER=$(id -u):$(id -g) FLPOC_DOCKER_GROUP=$(stat -c %g /var/run/docker.sock) docker compose up -d
# The kit is mounted where it lies: the engine, which starts the containers of jobs, knows this machine's paths only.
# The engine's socket is as mighty as root; containers of jobs never get it.
services:
  {service}:
    image: {image}
    container_name: {container}
    command: ["python3", "-m", "flpoc.{kind}", "${{PWD}}", "--state", "${{PWD}}/state"]
    labels: {{org.flpoc.project: {project}, org.flpoc.participant: {name}}}
    restart: unless-stopped
    init: true
    read_only: true
    tmpfs: ["/tmp"]
    cap_drop: ["ALL"]
    security_opt: ["no-new-privileges:true"]
    pids_limit: {pids}
    user: "${{FLPOC_USER:?is to be UID:GID of the owner of this folder}}"
    group_add: ["${{FLPOC_DOCKER_GROUP:?is to be the group id of the socket of the engine}}"]
    environment:
      DOCKER_HOST: "unix://${{FLPOC_DOCKER_SOCKET:-/var/run/docker.sock}}"
      HOME: "${{PWD}}/state"
    volumes:
      - "${{PWD}}:${{PWD}}"
      - "${{FLPOC_DOCKER_SOCKET:-/var/run/docker.sock}}:${{FLPOC_DOCKER_SOCKET:-/var/run/docker.sock}}"
{ports}"""


@attrs.frozen
class Parent:
    """The container of a service.

    Attributes:
        docker_image: Its image.
    """

    docker_image: str = attrs.field(default=OWN_IMAGE, validator=image_name)


@attrs.frozen
class DeployConfig:
    """What ``flpoc deploy prepare --config`` reads.

    Attributes:
        runtime: Where the kit will run.
        parent: The container of the service.
    """

    runtime: Literal["docker"] = "docker"
    parent: Parent = attrs.field(factory=Parent)


def config_for(kit: Path, given: Path | None) -> DeployConfig:
    """Read the settings of a deployment; what no file says is as by default.

    Raises:
        ConfigError: A file that is named is missing, or wrong.
    """
    path = given or kit / "config.yaml"
    if not path.is_file():
        if given is None:
            return DeployConfig()
        raise ConfigError(f"{path}: no such file", code="CONFIG_NOT_FOUND", hint="name the file, or leave out --config")
    return structure(read_file(path), DeployConfig, where=str(path))


def prepare(folder: Path, config: DeployConfig, *, output: Path | None, force: bool) -> dict[str, Any]:
    """Copy a kit and add what starts it in a container.

    Raises:
        KitError: It is no kit, or a user's, which has no service.
        PluginError: The kit does not let its owner use the docker launcher.
        UsageError: The place for the copy cannot be used.
    """
    kit = load_kit(folder)
    if kit.kind == "user":
        raise KitError(
            f"{kit.settings.name} is a user: a user's kit has nothing to start",
            code="UNSUPPORTED_KIT",
            hint="give the kit of the server or of a site",
        )
    if NAME not in kit.settings.plugins or (kit.kind == "server" and kit.settings.launcher != NAME):
        raise PluginError(
            f"the kit of {kit.settings.name} may not launch jobs by {NAME!r}",
            hint="provision it from a project file that says `launcher: docker` and names docker among its `plugins`",
        )
    image = config.parent.docker_image
    output = _place(kit, output or kit.folder / "prepared" / NAME, force)
    new = output.with_name(f".{output.name}-{secrets.token_hex(4)}")
    try:
        new.mkdir(mode=0o700, parents=True)
        _make(kit, image, new)
        _put_in_place(new, output)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return {
        "runtime": config.runtime,
        "role": kit.kind,
        "name": kit.settings.name,
        "output": str(output),
        "start_command": f"{output}/{SCRIPT}",
        "start_script": str(output / SCRIPT),
        "compose_file": str(output / COMPOSE),
        "image": image,
    }


def _place(kit: Kit, wanted: Path, force: bool) -> Path:
    """Where the copy is put: neither round nor in what is copied, and on nothing but an earlier copy."""
    output, source = wanted.absolute(), kit.folder.resolve()
    real = output.resolve()
    if source.is_relative_to(real):
        raise UsageError(f"{output} holds the kit itself", hint="choose another --output")
    if any(real.is_relative_to(source / name) for name in (STARTUP, LOCAL, TRANSFER)):
        raise UsageError(f"{output} is a place of the kit itself", hint="choose another --output")
    if os.path.lexists(output):
        if not force:
            raise UsageError(f"{output} exists already", hint="--force replaces it")
        if output.is_symlink() or not (output / SCRIPT).is_file():
            raise UsageError(
                f"{output} is not a kit that was prepared here", hint="remove it yourself, or choose another --output"
            )
    return output


def _make(kit: Kit, image: str, new: Path) -> None:
    for name in (STARTUP, LOCAL, TRANSFER):
        if (kit.folder / name).is_dir():
            shutil.copytree(kit.folder / name, new / name, symlinks=True)
    policy = {**kit.policy, "launcher_settings": {**kit.policy["launcher_settings"], "image": image}}
    policy["launcher_settings"].pop("engine", None)  # that of the other machine
    if kit.kind == "site":
        policy["launcher"] = NAME
    (new / LOCAL / POLICY).write_text(json.dumps(policy, indent=2) + "\n", encoding="utf-8")
    settings, serves = kit.settings, kit.kind == "server"
    port = settings.server_port
    words = {
        "kind": kit.kind,
        "name": settings.name,
        "project": settings.project,
        "pids": DockerSettings().pids,
        "service": settings.name.lower(),
        "server": settings.server_name,
        "image": image,
        "container": f"flpoc-{settings.project}-{settings.name}",
        "network": f"flpoc-{settings.project}",
        "publish": f"-p {port}:{port} " if serves else "",
        "ports": f'    ports: ["{port}:{port}"]\n' if serves else "",
    }
    for name, text, mode in ((SCRIPT, _SCRIPT, 0o700), (COMPOSE, _COMPOSE, 0o600)):
        path = new / name
        path.write_text(text.format(**words), encoding="utf-8")
        path.chmod(mode)


def _put_in_place(new: Path, output: Path) -> None:
    """Replace an earlier copy in one step; what its service has kept stays."""
    if output.exists():
        if (output / STATE).exists():
            os.rename(output / STATE, new / STATE)  # noqa: PTH104
        old = output.with_name(f".{output.name}-{secrets.token_hex(4)}")
        os.rename(output, old)  # noqa: PTH104 - both are ours
        os.rename(new, output)  # noqa: PTH104
        shutil.rmtree(old)
    else:
        os.rename(new, output)  # noqa: PTH104
