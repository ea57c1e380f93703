"""Whether a container has the programs that it is to run: its init process would only say so too late."""

from __future__ import annotations

import base64
import json
import posixpath
from typing import Any

import docker
import requests

from flpoc.errors import LaunchError
from flpoc.launching import LaunchRequest
from flpoc_builtin_docker.records import Ref

#: Where programs are searched that a request without PATH names.
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST_LINKS = 20
SHELL = "/bin/sh"
#: Go's bit for a symbolic link in the mode of a file.
_GO_SYMLINK = 1 << 27


def has_shell(api: docker.APIClient, ref: Ref) -> bool:
    """Whether a container that was made has a shell."""
    return _mode(api, ref, SHELL) is not None


def find_program(api: docker.APIClient, ref: Ref, request: LaunchRequest) -> None:
    """Look for the program of a container that was made and not yet started.

    Raises:
        LaunchError: It has none of that name, or may not run it.
    """
    program = request.argv[0]
    if "/" in program:
        places = [posixpath.join(request.workdir, program)]
    else:
        path = request.env.get("PATH", _DEFAULT_PATH)
        places = [posixpath.join(folder, program) for folder in path.split(":") if folder.startswith("/")]
    found = [mode for mode in (_mode(api, ref, place) for place in places) if mode is not None]
    if not found:
        raise LaunchError(
            f"{request.name}: cannot start {program!r}: the image {ref.image} has no such program",
            hint="name it by its full path in the image, or use an image that has it",
        )
    if not any(mode & 0o111 for mode in found):
        raise LaunchError(
            f"{request.name}: cannot start {program!r}: it is not executable",
            hint=f"make it executable: chmod +x {program}",
        )


def _mode(api: docker.APIClient, ref: Ref, place: str) -> int | None:
    """The mode of what is in a place, behind all links; None if there is nothing."""
    for _ in range(_MOST_LINKS):
        found = _stat(api, ref, place)
        if found is None or not found["mode"] & _GO_SYMLINK:
            return None if found is None else int(found["mode"])
        place = posixpath.join(posixpath.dirname(place), found["linkTarget"])
    return None


def _stat(api: docker.APIClient, ref: Ref, place: str) -> dict[str, Any] | None:
    url = f"{api.base_url}/v{api.api_version}/containers/{ref.id}/archive"
    answer = api.head(url, params={"path": place}, timeout=api.timeout)
    if answer.status_code == requests.codes.not_found:
        return None
    answer.raise_for_status()
    found: dict[str, Any] = json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))
    return found
