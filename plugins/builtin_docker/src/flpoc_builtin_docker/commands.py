"""``flpoc image`` and ``flpoc deploy``: what help shows of them; a command is imported when it is called."""

from __future__ import annotations

from flpoc.cli.command import Group

image = Group(
    "image",
    help="Make container images with flpoc.",
    table=(
        ("build", "flpoc_builtin_docker.image_build:build", "Make an image with flpoc, plugins and what they need."),
    ),
)
deploy = Group(
    "deploy",
    help="Prepare startup kits for where they will run.",
    table=(
        (
            "prepare",
            "flpoc_builtin_docker.deploy_prepare:prepare",
            "Make a copy of a startup kit that starts in containers with one command.",
        ),
    ),
)
