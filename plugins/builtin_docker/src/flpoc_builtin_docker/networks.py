"""The network that the services of one owner share: made with the first, removed with the last."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, NotFound

from flpoc.launching import LaunchRequest
from flpoc_builtin_docker.records import locked
from flpoc_builtin_docker.settings import DockerSettings

#: Label of a network that was made here, and is removed when nothing is in it.
OURS = "org.flpoc.network"


def network_of(request: LaunchRequest, settings: DockerSettings) -> str:
    """Its name: what the settings say, else one for each *state* folder."""
    project = request.labels.get("project", "")
    which = hashlib.sha256(os.fsencode(request.state)).hexdigest()[:10]
    return settings.network or "-".join(filter(None, ("flpoc", project, which)))


def join(api: docker.APIClient, request: LaunchRequest, settings: DockerSettings) -> str:
    """Make the network if it is not there; gives its name."""
    name = network_of(request, settings)
    with locked(Path(request.state) / "docker-network.lock"):  # the engine takes two networks of one name
        try:
            api.inspect_network(name)
        except NotFound:
            api.create_network(name, driver="bridge", check_duplicate=True, labels={OURS: "1"})
    return name


def leave(api: docker.APIClient, container: dict[str, Any]) -> None:
    """Remove the networks of a container that was just removed, if they are ours and empty."""
    for name in container["NetworkSettings"]["Networks"]:
        with contextlib.suppress(APIError, NotFound):  # somebody else is in it
            found = api.inspect_network(name)
            if OURS in (found.get("Labels") or {}) and not found.get("Containers"):
                api.remove_network(found["Id"])
