"""What the console does with studies, by the commands of the command line."""

from __future__ import annotations

import click

from flpoc.cli.console.command import ConsoleCommand, taken
from flpoc.cli.study import study

_KINDS = {"name": "study"}


def _taken(found: str, name: str, *examples: str) -> ConsoleCommand:
    command = study.get_command(click.Context(study), found)
    assert command is not None
    return taken(command, name, examples=examples, kinds=_KINDS)


list_studies = _taken("list", "list_studies", "list_studies")
show_study = _taken("show", "show_study", "show_study cancer")
register_study = _taken(
    "register",
    "register_study",
    "register_study cancer --site-org nvidia:site-1,site-2",
    "register_study cancer --sites site-1 site-2",
)
remove_study = _taken("remove", "remove_study", "remove_study cancer")
add_study_site = _taken("add-site", "add_study_site", "add_study_site cancer --site-org nvidia:site-2")
remove_study_site = _taken("remove-site", "remove_study_site", "remove_study_site cancer --site-org nvidia:site-2")
add_study_user = _taken("add-user", "add_study_user", "add_study_user cancer lead@nvidia.com")
remove_study_user = _taken("remove-user", "remove_study_user", "remove_study_user cancer lead@nvidia.com")
