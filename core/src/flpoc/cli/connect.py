"""What every command that talks to a server has: its options, and a session opened by them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from flpoc.cli import suggest
from flpoc.cli.call import Call
from flpoc.cli.options import option

if TYPE_CHECKING:
    from flpoc.session import Session


@attrs.frozen
class Connection:
    """Which server a command talks to, as whom and in which study.

    Attributes:
        call: The call of the command line.
        study: Name of the study.
        kit_id: Id of a registered kit, or None.
        startup_kit: Folder of a kit, or None.
    """

    call: Call
    study: str
    kit_id: str | None
    startup_kit: str | None

    def open(self) -> Session:
        """Open a session; nothing is said to the server yet.

        Raises:
            KitError: No kit is given, or it cannot be used.
            UsageError: Two kits are given, or the study's name cannot be one.
        """
        from flpoc.session import Session, check_study

        check_study(self.study)
        return Session.open(self.kit_folder(), study=self.study, timeout=self.call.connect_timeout)

    def kit_source(self) -> tuple[str, str | None]:
        """What said which kit is used: kit_id, startup_kit, environment or active; and its id if it has one."""
        import os

        from flpoc.configuration import KIT_VARIABLE, Configuration

        if self.kit_id:
            return "kit_id", self.kit_id
        if self.startup_kit:
            return "startup_kit", None
        if os.environ.get(KIT_VARIABLE, "").strip():
            return "environment", None
        return "active", Configuration.load().active or None

    def kit_folder(self) -> Path:
        """The folder of the kit that is used."""
        from flpoc.configuration import Configuration, resolve_kit

        return resolve_kit(Configuration.load(), self.kit_id, self.startup_kit)


def connects(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a connection to a command, and give it a :class:`Connection` first."""

    @option("--study", metavar="NAME", default="default", show_default=True, shell_complete=suggest.studies,
            help="The study to work in.")  # fmt: skip
    @option("--kit-id", metavar="ID", shell_complete=suggest.kit_ids, help="Use this registered startup kit.")
    @option("--startup-kit", metavar="PATH", help="Use the startup kit in this folder.")
    @click.pass_obj
    @functools.wraps(command)
    def connected(
        call: Call,
        /,
        *arguments: Any,
        study: str = "default",
        kit_id: str | None = None,
        startup_kit: str | None = None,
        **options: Any,
    ) -> Any:
        # in a console these options do not exist: it has one connection for all its commands
        connection = call.connection or Connection(call, study, kit_id, startup_kit)
        return command(connection, *arguments, **options)

    return connected


def _job_id(_: click.Context, __: click.Parameter, value: str) -> str:
    from flpoc.session import check_job_id

    return check_job_id(value)


def job_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument JOB_ID, which is looked at before any server is asked."""
    return click.argument("job_id", callback=_job_id, shell_complete=suggest.job_ids)(command)
