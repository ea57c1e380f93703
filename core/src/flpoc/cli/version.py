"""``flpoc version``."""

from __future__ import annotations

import platform

import click

from flpoc import API, __version__
from flpoc.cli.command import Command
from flpoc.formatting import Report


@click.command(cls=Command, examples=("flpoc version",), mutating=False, idempotent=True)
def version() -> Report:
    """Show the version of flpoc."""
    data = {"version": __version__, "plugin_api": API, "python": platform.python_version()}
    return Report(data=data, text=(f"flpoc {__version__}",))
