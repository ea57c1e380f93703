"""Job templates: job folders to begin with, of plugins and of folders that the user names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from flpoc.errors import ConfigError, FlpocError, PluginError, UsageError, did_you_mean
from flpoc.jobs.folder import job_file
from flpoc.settings import read_file, structure

if TYPE_CHECKING:
    from flpoc.plugins import Plugins

#: What a template says about itself.
INFO_FILE: Final = "info.conf"
#: Which package has what, for whoever asks for one that is not installed.
_PACKAGES: Final = {"sag_pt": "flpoc-framework-torch", "sag_tf": "flpoc-framework-tf"}


@attrs.frozen
class TemplateInfo:
    """What ``info.conf`` says.

    Attributes:
        description: One line.
        controller_type: What the course of the job is.
        execution_api_type: How its script takes part.
    """

    description: str = ""
    controller_type: str = ""
    execution_api_type: str = ""


@attrs.frozen
class Template:
    """A job folder to begin with.

    Attributes:
        name: How it is asked for: the name of its folder.
        folder: Where it is.
        info: What it says about itself.
        plugin: Which plugin contributes it; empty for one of the user's own folders.
    """

    name: str
    folder: Path
    info: TemplateInfo = TemplateInfo()
    plugin: str = ""


@attrs.frozen
class Templates:
    """All templates that there are, sorted by name, and what is wrong with others."""

    found: tuple[Template, ...]
    warnings: tuple[str, ...]

    def get(self, name: str) -> Template:
        """The template of this name; the user's own comes before a plugin's.

        Raises:
            UsageError: There is none; says what was probably meant, or which package has it.
            PluginError: Two plugins contribute it.
        """
        named = [one for one in self.found if one.name == name]
        own = [one for one in named if not one.plugin]
        if len(own or named) == 1:
            return (own or named)[0]
        if named:
            both = " and ".join(one.plugin for one in named)
            raise PluginError(
                f"the job template {name!r} is contributed by {both}",
                code="PLUGIN_CONFLICT",
                hint=f"give its folder, or switch one of them off: `flpoc plugins disable {named[0].plugin}`",
            )
        known = [one.name for one in self.found]
        wanted = (
            f"install {_PACKAGES[name]}" if name in _PACKAGES else did_you_mean(name, known, "-w also takes a folder")
        )
        hint = f"{wanted}; there are: {', '.join(known)}" if known else wanted
        raise UsageError(f"no job template {name!r} is installed", hint=hint, data={"templates": known})


def find_templates(plugins: Plugins, folder: Path | None = None) -> Templates:
    """Find what plugins contribute and what is in *folder*, one folder each.

    Raises:
        UsageError: *folder* is not a folder.
    """
    warnings: list[str] = []
    own = [] if folder is None else list(_of_folder(folder, warnings))
    contributed = list(_of_plugins(plugins, warnings))
    known = {one.name for one in own}
    found = [*own, *(one for one in contributed if one.name not in known)]
    return Templates(tuple(sorted(found, key=lambda one: (one.name, one.plugin))), tuple(warnings))


def choose_template(wanted: str, plugins: Plugins, folder: Path | None = None) -> Template:
    """The template that a user means: by its name, or by its folder.

    Raises:
        UsageError: There is no such template.
        PluginError: Two plugins contribute it.
    """
    path = Path(wanted).expanduser()
    templates = find_templates(plugins, folder)
    is_name = "/" not in wanted and wanted not in (".", "..")
    if is_name and (not path.is_dir() or any(one.name == wanted for one in templates.found)):
        return templates.get(wanted)
    if not path.is_dir():
        raise UsageError(f"-w: {wanted}: {'not a folder' if path.exists() else 'no such folder'}", hint=_LIST)
    path = path.resolve()
    if not _is_job(path):
        raise UsageError(f"-w: {wanted} is no job template: it has no job file", hint=_LIST)
    warnings: list[str] = []
    return Template(path.name, path, _info(path, warnings))


_LIST = "`flpoc job list-templates` lists what there is"


def _is_job(folder: Path) -> bool:
    try:
        return job_file(folder) is not None
    except (FlpocError, OSError):
        return False


def _of_folder(folder: Path, warnings: list[str]) -> Iterator[Template]:
    if not folder.is_dir():
        what = "not a folder" if folder.exists() else "no such folder"
        raise UsageError(f"{folder}: {what}", hint="give a folder with one folder for each job template")
    own = [one for one in sorted(folder.iterdir()) if not one.name.startswith(".") and one.is_dir() and _is_job(one)]
    if not own:
        above = f"; it is one itself: give {folder.parent}" if _is_job(folder) else ""
        warnings.append(f"{folder} has no job templates: no folder in it has a job file{above}")
    for one in own:
        yield Template(one.name, one, _info(one, warnings))


def _of_plugins(plugins: Plugins, warnings: list[str]) -> Iterator[Template]:
    for record, folder in plugins.contributions("job_templates"):
        if not isinstance(folder, Path) or not folder.is_dir() or not _is_job(folder):
            warnings.append(f"Plugin {record.name}: {folder!r} is no job folder; this template is left out.")
            continue
        yield Template(folder.name, folder, _info(folder, warnings), record.name)
    warnings += [
        f"The job templates of plugin {record.name} are left out: {record.reason.partition(': ')[2]}"
        for record in plugins.records
        if record.reason.startswith("flpoc_job_templates:")
    ]


def read_info(folder: Path) -> TemplateInfo:
    """What a template says about itself; nothing, if it has no such file.

    Raises:
        ConfigError: The file is wrong.
    """
    path = folder / INFO_FILE
    if not path.exists():
        return TemplateInfo()
    data = read_file(path)
    try:
        return structure(data, TemplateInfo)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from None


def _info(folder: Path, warnings: list[str]) -> TemplateInfo:
    try:
        return read_info(folder)
    except ConfigError as error:
        warnings.append(f"{error.message}; the template has no description")
        return TemplateInfo()
