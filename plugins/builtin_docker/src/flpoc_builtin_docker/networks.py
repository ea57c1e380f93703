"""The network that the services of one owner share: made with the first, removed with the last."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import docker
from docker.errors import NotFound

from flpoc.launching import LaunchRequest
from flpoc_builtin_docker.records import Ref, locked
from flpoc_builtin_docker.settings import DockerSettings

#: Label of a network that was made here, and is removed when nothing is in it: its name.
OURS = "org.flpoc.network"
_LOCK = "docker-network.lock"


def network_of(request: LaunchRequest, settings: DockerSettings) -> str:
    """Its name: what the settings say, else one for each *state* folder; empty for what has no network."""
    if request.network != "open":
        return ""
    project = request.labels.get("project", "")
    which = hashlib.sha256(os.fsencode(request.state)).hexdigest()[:10]
    return settings.network or "-".join(filter(None, ("flpoc", project, which)))


@contextlib.contextmanager
def joining(api: docker.APIClient, name: str, state: str) -> Iterator[None]:
    """Make the network if it is not there; nobody removes it while a container is being made for it."""
    if not name:
        yield
        return
    with locked(Path(state) / _LOCK):  # the engine takes two networks of one name
        try:
            api.inspect_network(name)
        except NotFound:
            api.create_network(name, driver="bridge", check_duplicate=True, labels={OURS: name})
        yield


def leave(api: docker.APIClient, ref: Ref) -> None:
    """Remove the network of a container that is gone, if it is ours and no other container is to use it.

    Raises:
        APIError: The engine cannot remove it.
    """
    if not ref.network:
        return
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(FileNotFoundError):  # the folder is gone, and with it whoever makes containers there
            stack.enter_context(locked(Path(ref.state) / _LOCK))
        # those that do not run, or do not run yet, too: by the name of the network, as they have not joined it
        if not api.containers(all=True, filters={"network": ref.network}):
            for one in api.networks(filters={"label": f"{OURS}={ref.network}"}):
                with contextlib.suppress(NotFound):
                    api.remove_network(one["Id"])
