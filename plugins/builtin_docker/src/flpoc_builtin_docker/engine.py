"""The Docker engine: reached, and what goes wrong with it said in one line with what to do."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from flpoc.errors import LaunchError
from flpoc_builtin_docker.settings import OWN_IMAGE, DockerSettings

DEFAULT_ENGINE = "unix:///var/run/docker.sock"
#: How long the engine may take to answer what it answers from memory, or does at once.
ANSWER_SECONDS = 60.0
#: Label of an image that says where its interpreter is.
PYTHON_LABEL = "org.flpoc.python"

#: What is raised when the engine does not answer, or goes away while it does.
AWAY = (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError, ConnectionError)


def address_of(settings: DockerSettings) -> str:
    """Where the engine is reached."""
    return settings.engine or os.environ.get("DOCKER_HOST") or DEFAULT_ENGINE


def socket_of(engine: str) -> str:
    """The path of its socket; empty where it has none on this machine."""
    return engine.removeprefix("unix://") if engine.startswith("unix://") else ""


def check_socket(engine: str, what: str) -> None:
    """Refuse an engine that services could not use: they launch jobs by its socket, and see files of its machine.

    Raises:
        LaunchError: It has no socket on this machine.
    """
    if not socket_of(engine):
        raise LaunchError(
            f"{what}: services need a Docker engine with a socket on this machine; {engine} is none",
            hint="name a socket in DOCKER_HOST, e.g. unix:///var/run/docker.sock, and run flpoc where the engine runs",
        )


def client(engine: str, timeout: float | None = ANSWER_SECONDS) -> docker.APIClient:
    """Connect to an engine, which is not asked anything yet.

    Raises:
        LaunchError: The address makes no sense.
    """
    try:
        # a fixed version saves a question for each client; 1.41 is that of Docker 20.10
        return docker.APIClient(base_url=engine, version="1.41", timeout=timeout)
    except DockerException as error:
        raise LaunchError(f"no Docker engine at {engine}: {error}", hint="see DOCKER_HOST") from error


@contextlib.contextmanager
def asking(engine: str, what: str, image: str = "") -> Iterator[None]:
    """Turn what the engine refuses, or that it does not answer, into a :class:`LaunchError` about *what*."""
    try:
        yield
    except ImageNotFound as error:
        raise image_missing(what, image, engine) from error
    except APIError as error:
        raise _refused(what, image, str(error.explanation or error)) from error
    except requests.exceptions.ReadTimeout as error:
        hint = "it may be overloaded; see its log"
        raise LaunchError(f"{what}: the Docker engine at {engine} does not answer", hint=hint) from error
    except (*AWAY, DockerException) as error:
        raise no_engine(engine, what) from error


def no_engine(engine: str, what: str) -> LaunchError:
    """Why the engine cannot be reached, and what to do."""
    path = socket_of(engine)
    if path and Path(path).exists() and not os.access(path, os.R_OK | os.W_OK):
        return LaunchError(
            f"{what}: no permission on the socket of the Docker engine, {path}",
            hint="add this user to the group docker and log in again (`sudo usermod -aG docker $USER`); that group "
            "is as mighty as root",
        )
    return LaunchError(
        f"{what}: no Docker engine answers at {engine}",
        hint="start it (`sudo systemctl start docker`), or name another in DOCKER_HOST; the launcher local needs none",
    )


def image_missing(what: str, image: str, engine: str) -> LaunchError:
    """There is no such image, and how to get it."""
    if image == OWN_IMAGE:
        hint = "make it: `flpoc image build`"
    else:
        hint = f"fetch it: `docker pull {image}`; or add flpoc to an image: `flpoc image build --base IMAGE`"
    return LaunchError(f"{what}: the Docker engine at {engine} has no image {image!r}", hint=hint)


def _refused(what: str, image: str, said: str) -> LaunchError:
    said = " ".join(said.split())
    if "capabilities: [[gpu]]" in said or "nvidia" in said.lower():
        return LaunchError(
            f"{what}: graphics processors were asked for, and the Docker engine cannot give any: {said}",
            hint="install the NVIDIA Container Toolkit, or ask for no GPU",
        )
    if "bind source path does not exist" in said:
        source = said.rpartition("exist: ")[2]
        return LaunchError(f"{what}: {source} does not exist", hint="make it, or do not grant it")
    if "No such image" in said:
        return LaunchError(f"{what}: no image {image!r}", hint=f"fetch it: `docker pull {image}`")
    return LaunchError(f"{what}: the Docker engine refuses: {said}", hint="see the engine's log")


def said_of_engine(settings: DockerSettings) -> str:
    """One sentence about the engine that would be used, for ``flpoc plugins show``."""
    engine = address_of(settings)
    try:
        with asking(engine, "docker"):
            found = client(engine, 5.0).version()
    except LaunchError as error:
        return f"{error.message.partition(': ')[2]}; {error.hint}"
    return f"Docker {found.get('Version', '?')} answers at {engine}"


def image_of(api: docker.APIClient, image: str, what: str, engine: str) -> dict[str, Any]:
    """What the engine knows of an image.

    Raises:
        LaunchError: It has none, or does not answer.
    """
    try:
        with asking(engine, what, image):
            found: dict[str, Any] = api.inspect_image(image)
            return found
    except LaunchError as error:
        if isinstance(error.__cause__, NotFound):
            raise image_missing(what, image, engine) from error
        raise
