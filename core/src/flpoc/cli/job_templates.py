"""``flpoc job create | list-templates | show-variables``: jobs to begin with."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from flpoc.cli.call import Call
from flpoc.cli.command import Command
from flpoc.cli.options import option
from flpoc.configuration import Configuration, folder_named
from flpoc.formatting import Report, Table

if TYPE_CHECKING:
    from flpoc.jobs.variables import Variable

_CURRENT = "./current_job"
_TEMPLATE = "sag_pt"


def _templates_folder(call: Call, given: str | None, settings: Configuration) -> Path | None:
    """The user's own folder of templates: the one that is given, else the configured one."""
    if given:
        return folder_named(given, "-d", is_there=True)
    folder = Path(settings.job_templates).expanduser()
    if settings.job_templates and not folder.is_dir():
        call.note(f"The configured folder of job templates, {folder}, is not there.")
    return folder if settings.job_templates and folder.is_dir() else None


@click.command(
    "create",
    cls=Command,
    examples=(
        "flpoc job create -j my-job -w sag_np",
        "flpoc job create -j my-job -w sag_np -sd scripts -f job.conf script=mine.py rounds=10 -force",
    ),
    mutating=True,
    idempotent=True,
)
@option("-j", "--job-folder", "--job_folder", "folder", metavar="DIR", bare=_CURRENT, default=_CURRENT,
        show_default=True,
        help="Where the job is made.")  # fmt: skip
@option("-w", "--template", metavar="NAME", default=_TEMPLATE, show_default=True,
        help="Name of the job template, or its folder.")  # fmt: skip
@option("-sd", "--script-dir", "--script_dir", "scripts", metavar="DIR",
        help="A folder with scripts, instead of the template's code.")  # fmt: skip
@option("-f", "--config-file", "--config_file", "changes", grouped=True, metavar="FILE KEY=VALUE",
        help="Values that are to be other than in the template; can be repeated.")  # fmt: skip
@option("-d", "--job-templates-dir", "--job_templates_dir", "templates", metavar="DIR",
        help="Look for templates in this folder, instead of the configured one.")  # fmt: skip
@click.option("-force", "--force", is_flag=True, help="Replace the job that is there.")
@click.option("-debug", "--debug", is_flag=True, help="Show where an error comes from.")
@click.pass_obj
def create(
    call: Call,
    *,
    folder: str,
    template: str,
    scripts: str | None,
    changes: tuple[tuple[str, ...], ...],
    templates: str | None,
    force: bool,
    debug: bool,
) -> Report:
    """Make a job folder from a template.

    The job is called like its folder. Keys are dotted and values are typed
    as in HOCON: ``-f job.conf rounds=10 timeouts.stall="5 m"``;
    `flpoc job show-variables` lists the keys. Where a job is there already,
    its configuration is left as it is, unless -force is given.
    """
    from flpoc.jobs.creating import Wanted, create_job, parse_changes
    from flpoc.jobs.templates import choose_template
    from flpoc.jobs.variables import variables_of

    chosen = choose_template(template, call.plugins, _templates_folder(call, templates, Configuration.load()))
    wanted = Wanted(Path(folder), chosen, Path(scripts) if scripts else None, parse_changes(changes), force)
    made = create_job(wanted, call.plugins)
    rows = variables_of(made.folder, call.plugins, made.job) if made.job is not None else []
    said = {
        "created": f"Made {made.folder} from the template {chosen.name}.",
        "replaced": f"Replaced the job in {made.folder}, from the template {chosen.name}.",
        "kept": f"The configuration in {made.folder} was left as it is.",
    }
    data = {"job_folder": str(made.folder), "status": made.status, "template": chosen.name, **_data(rows)}
    written = [row for row in rows if row.written]
    text: list[str | Table] = [said[made.status], *([_table(written)] if written else [])]
    place = quote(str(folder))
    text += [f"All that can be changed: flpoc job show-variables -j {place}", f"Next: flpoc job submit -j {place}"]
    return Report(data=data, text=text, warnings=made.warnings)


@click.command(
    "list-templates",
    cls=Command,
    examples=("flpoc job list-templates", "flpoc job list-templates -d job-templates"),
    mutating=True,
    idempotent=True,
)
@option("-d", "--job-templates-dir", "--job_templates_dir", "folder", metavar="DIR", bare=None,
        help="A folder with job templates; it is remembered.")  # fmt: skip
@click.option("-debug", "--debug", is_flag=True, help="Show where an error comes from.")
@click.pass_obj
def list_templates(call: Call, folder: str | None, debug: bool) -> Report:
    """List job templates: those of plugins, and those in your own folder.

    A template is a job folder; what is said about it here is in its info.conf.
    """
    from flpoc.jobs.templates import find_templates

    settings = Configuration.load()
    own = _templates_folder(call, folder, settings)
    found = find_templates(call.plugins, own)
    if folder and own is not None:
        settings.with_job_templates(own).save()
    rows = [
        {
            "name": one.name,
            "description": one.info.description,
            "controller_type": one.info.controller_type,
            "execution_api_type": one.info.execution_api_type,
            "folder": str(one.folder),
            "plugin": one.plugin or None,
        }
        for one in found.found
    ]
    heads = ("name", "Description", "Controller Type", "Execution API Type")
    keys = ("name", "description", "controller_type", "execution_api_type")
    table = Table(heads, tuple(tuple(str(row[key]) for key in keys) for row in rows))
    return Report(data=rows, text=(table,), warnings=found.warnings)


@click.command(
    "show-variables",
    cls=Command,
    examples=("flpoc job show-variables -j my-job",),
    mutating=False,
    idempotent=True,
)
@option("-j", "--job-folder", "--job_folder", "folder", metavar="DIR", bare=_CURRENT, default=_CURRENT,
        show_default=True,
        help="The job's folder, or a folder with exactly one job in it.")  # fmt: skip
@click.option("-debug", "--debug", is_flag=True, help="Show where an error comes from.")
@click.pass_obj
def show_variables(call: Call, folder: str, debug: bool) -> Report:
    """Show what can be changed in a job, with the values that hold now."""
    from flpoc.jobs.folder import find_job_folder
    from flpoc.jobs.variables import variables_of

    found, note = find_job_folder(Path(folder).expanduser())
    if note:
        call.note(note)
    rows = variables_of(found, call.plugins)
    return Report(data={"job_folder": str(found), **_data(rows)}, text=(_table(rows),))


def _data(rows: list[Variable]) -> dict[str, Any]:
    keys = ("file", "variable", "value", "component", "written")
    return {"variables": [{key: getattr(row, key) for key in keys} for row in rows]}


def _table(rows: list[Variable]) -> Table:
    return Table(
        ("file", "variable", "value", "component"), tuple((r.file, r.variable, r.text, r.component) for r in rows)
    )
