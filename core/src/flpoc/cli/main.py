"""The entry point of ``flpoc``."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import Final

from flpoc.ending import end

#: What core offers: name, where the click command is, one line for ``flpoc --help``.
#: Modules named here are imported when their command is called, not before.
COMMANDS: tuple[tuple[str, str, str], ...] = (
    ("audit", "flpoc.cli.audit:audit", "Check and show the audit logs of servers and sites."),
    ("cert", "flpoc.cli.cert:cert", "Ask for certificates and issue them; private keys stay where they are."),
    ("completion", "flpoc.cli.completion:completion", "Print the script with which a shell completes commands."),
    ("config", "flpoc.cli.config:config", "Show and change this user's settings and startup kits."),
    ("console", "flpoc.cli.console.opening:console", "Open a console: short commands over one connection."),
    ("job", "flpoc.cli.job:job", "Submit, watch and manage jobs, and download their results."),
    ("package", "flpoc.cli.package:package", "Make a startup kit of an approved request."),
    ("plugins", "flpoc.cli.plugins:plugins", "List installed plugins and what each offers."),
    ("poc", "flpoc.cli.poc:poc", "Prepare, start and stop a server and its sites on this machine."),
    ("preflight-check", "flpoc.cli.preflight:preflight_check", "Check a startup kit where it will be used."),
    ("provision", "flpoc.cli.provision:provision", "Make startup kits for all participants of a project."),
    ("recipe", "flpoc.cli.recipe:recipe", "Show recipes, and write their jobs."),
    ("simulator", "flpoc.cli.simulator:simulator", "Run a job with virtual sites on this machine."),
    ("study", "flpoc.cli.study:study", "Make studies, and say which sites and users work in them."),
    ("system", "flpoc.cli.system:system", "Look at and operate the server and its sites."),
    ("version", "flpoc.cli.version:version", "Show the version of flpoc."),
)


#: Objects that are made before the collector of garbage looks for circles: a short command never gets there.
_OBJECTS: Final = 50_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status; never raises for what a user can cause.

    Without *argv* it is the program: its words are read from the command line, and where nothing is left to do the
    process ends here.
    """
    if argv is not None:
        return _run(argv)
    gc.set_threshold(_OBJECTS)
    # the standard library's archive is seldom there: whoever looks for packages would import what opens archives
    sys.path[:] = [place for place in sys.path if os.path.exists(place or ".")]  # noqa: PTH110 - pathlib is not needed yet
    status = _run(sys.argv[1:])
    end(status)
    return status


def _run(line: Sequence[str]) -> int:
    try:
        if asked := os.environ.get("_FLPOC_COMPLETE"):
            from flpoc.cli.shells import answer

            return answer(asked, COMMANDS)
        from flpoc.cli.run import run

        return run(line, COMMANDS)
    except KeyboardInterrupt:
        return 130
