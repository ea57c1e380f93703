"""Fetching an image: a step of its own, which may take as long as it takes, and says how far it is."""

from __future__ import annotations

from collections.abc import Callable

import docker
from docker.errors import APIError, NotFound

from flpoc.errors import LaunchError
from flpoc_builtin_docker.engine import asking, image_missing
from flpoc_builtin_docker.settings import OWN_IMAGE


def fetch(api: docker.APIClient, image: str, engine: str, say: Callable[[str], None]) -> None:
    """Fetch *image* unless the engine has it.

    Raises:
        LaunchError: The engine does not answer, or the image is nowhere.
    """
    with asking(engine, "docker", image):
        try:
            api.inspect_image(image)
            return
        except NotFound as error:
            if image == OWN_IMAGE:
                raise image_missing("docker", image, engine) from error
        say(f"fetching {image}")
        repository, _, tag = image.rpartition(":") if ":" in image.rsplit("/", 1)[-1] else (image, "", "latest")
        try:
            for one in api.pull(repository, tag=tag, stream=True, decode=True):
                if "error" in one:
                    raise LaunchError(
                        f"docker: {image!r} cannot be fetched: {one['error']}",
                        hint="is its name right, and does the engine reach the registry?",
                    )
                say(" ".join(filter(None, (image, one.get("id", ""), one.get("status", ""), one.get("progress", "")))))
        except APIError as error:
            raise LaunchError(
                f"docker: there is no image {image!r}, and it cannot be fetched: {error.explanation or error}",
                hint="is its name right, and does the engine reach the registry? `flpoc image build` makes one here",
            ) from error
