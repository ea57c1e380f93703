"""What the engine of a simulation and its workers say to each other, besides what a trainer and its owner do."""

from __future__ import annotations

import attrs

from flpoc.filtering import FilterSpec
from flpoc.wire.codec import PLAIN_BYTES, Family
from flpoc.wire.trainer_messages import Failed, Give, Logged, Over, Submit, TrainerStart


@attrs.frozen
class Stage:
    """A worker is to be this site and run its script.

    Attributes:
        start: What the script is told of its job.
        script: The script's file.
        args: Its arguments.
        command: Program that runs it, with its own arguments; empty: this process.
        env: What it finds in its environment besides what every script does.
        log: The file that gets its output.
        kept: Where folders go that the script wants kept.
        filters: What its answers pass.
        once: The script is started for one task, and the worker is free again when it ends. Otherwise the worker
            is this site until it ends itself.
    """

    start: TrainerStart
    script: str
    args: tuple[str, ...]
    command: tuple[str, ...]
    env: dict[str, str]
    log: str
    kept: str
    filters: tuple[FilterSpec, ...]
    once: bool


@attrs.frozen
class Ended:
    """The script has ended by itself.

    Attributes:
        code: What its process would have ended with.
        calls: How often it has called the client API.
    """

    code: int
    calls: int


TO_WORKER = Family("engine", Stage, Give, Over)
FROM_WORKER = Family("worker", Submit, Failed, Logged, Ended, plain_limit=PLAIN_BYTES)
