"""What can be set for the ``docker`` launcher."""

from __future__ import annotations

from typing import Any

import attrs

from flpoc import __version__

#: The image that `flpoc image build` makes.
OWN_IMAGE = f"flpoc:{__version__}"


def _positive(_: Any, attribute: Any, value: float) -> None:
    if not 0 < value < 1e6:
        raise ValueError(f"{attribute.name} must be greater than 0")


def image_name(_: Any, attribute: Any, value: str) -> None:
    from flpoc.launching import IMAGE_NAME  # for `--help`, which imports these settings, it would be too much

    if not IMAGE_NAME.fullmatch(value):
        raise ValueError(f"{attribute.name}: {value[:80]!r} is not the name of an image")


@attrs.frozen
class DockerSettings:
    """Settings of the ``docker`` launcher.

    Attributes:
        image: The image of services, and of jobs that name none; by default what ``flpoc image build`` makes.
        engine: Address of the engine, e.g. ``unix:///run/user/1000/docker.sock``; empty: ``DOCKER_HOST``, else
            ``unix:///var/run/docker.sock``.
        network: Name of the network that services share; empty: one for each workspace, removed with its last service.
        python: The interpreter in the image; empty: what the image's label ``org.flpoc.python`` says, else ``python3``.
        user: ``UID:GID`` of what runs; empty: those of the caller, or 10000:10000 where that is root.
        shm_gib: Shared memory of each container, in GiB.
        pids: How many processes and threads each container may have.
    """

    image: str = attrs.field(default=OWN_IMAGE, validator=image_name)
    engine: str = ""
    network: str = ""
    python: str = ""
    user: str = ""
    shm_gib: float = attrs.field(default=0.25, validator=_positive)
    pids: int = attrs.field(default=4096, validator=_positive)
