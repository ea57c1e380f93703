"""``flpoc completion``: what a shell loads so that it completes flpoc's commands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from flpoc.cli.command import Command
from flpoc.cli.shells import SCRIPTS
from flpoc.errors import UsageError
from flpoc.formatting import Report

#: The line for the file that a shell reads when it starts.
_LINES: Final = {
    "bash": "source <(flpoc completion bash)",
    "zsh": "source <(flpoc completion zsh)",
    "fish": "flpoc completion fish | source",
}


@click.command(cls=Command, examples=("flpoc completion bash", "flpoc completion zsh"), mutating=False, idempotent=True)
@click.argument("shell", type=click.Choice([*SCRIPTS]), required=False)
def completion(shell: str | None) -> Report:
    """Print the script with which a shell completes commands, options and values.

    SHELL is bash, zsh or fish; if it is left out, the one that the variable
    SHELL names. To have it in every new shell, put the line into the file
    that it reads when it starts:

    \b
      ~/.bashrc                    source <(flpoc completion bash)
      ~/.zshrc                     source <(flpoc completion zsh)
      ~/.config/fish/config.fish   flpoc completion fish | source
    """
    name = shell or Path(os.environ.get("SHELL", "")).name
    if name not in SCRIPTS:
        raise UsageError(
            f"{name!r} is the shell that $SHELL names, and there is no completion for it"
            if name
            else "no shell is named, and the variable SHELL is not set",
            hint=f"name one: flpoc completion {'|'.join(SCRIPTS)}",
        )
    return Report(data={"shell": name, "script": SCRIPTS[name], "line": _LINES[name]}, text=(SCRIPTS[name],))
