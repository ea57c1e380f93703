"""Fetching an image: a step of its own, which may take as long as it takes, and says how far it is."""

from __future__ import annotations

from collections.abc import Callable

import docker
from docker.errors import APIError, NotFound

from flpoc.errors import LaunchError
from flpoc_builtin_docker.engine import asking, image_missing
from flpoc_builtin_docker.settings import OWN_IMAGE


def fetch(
    api: docker.APIClient, image: str, engine: str, say: Callable[[str], None], *, what: str, otherwise: str
) -> None:
    """Fetch *image* unless the engine has it; *what* wants it, and *otherwise* is another way to one.

    Raises:
        LaunchError: The engine does not answer, or the image is nowhere.
    """
    with asking(engine, what, image):
        try:
            api.inspect_image(image)
            return
        except NotFound as error:
            if image == OWN_IMAGE:
                raise image_missing(what, image, engine) from error
        say(f"fetching {image}")
        repository, tag = _parts(image)
        try:
            for one in api.pull(repository, tag=tag, stream=True, decode=True):
                if "error" in one:
                    raise LaunchError(
                        f"{what}: {image!r} cannot be fetched: {one['error']}",
                        hint=f"is its name right, and does the engine reach the registry? {otherwise}",
                    )
                say(" ".join(filter(None, (image, one.get("id", ""), one.get("status", ""), one.get("progress", "")))))
        except APIError as error:
            raise LaunchError(
                f"{what}: there is no image {image!r}, and it cannot be fetched: {error.explanation or error}",
                hint=f"is its name right, and does the engine reach the registry? {otherwise}",
            ) from error


def _parts(image: str) -> tuple[str, str]:
    """The name of an image without its tag or digest, and that."""
    for mark in ("@", ":"):
        name, _, which = image.rpartition(mark)
        if name and "/" not in which:
            return name, which
    return image, "latest"
