"""What can be changed in a job, by the keys that ``flpoc job create -f`` takes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from flpoc.errors import ConfigError
from flpoc.jobs.creating import settings_files
from flpoc.jobs.folder import JobFile, read_job_file
from flpoc.jobs.overrides import join_key
from flpoc.jobs.spec import DEFAULT_SITE, JobSpec, ScriptSpec, TimeoutSpec
from flpoc.settings import plain, read_file

if TYPE_CHECKING:
    from flpoc.plugins import Plugins

#: A larger file below code/ is taken for data, not for settings.
_MOST_BYTES = 16 << 10
_NEEDS = ("cpus", "memory_gib", "gpus")


@attrs.frozen
class Variable:
    """A value in a file of a job.

    Attributes:
        file: The file, relative to the job folder.
        variable: Its key.
        value: What it is; where the file says nothing, the default.
        component: What it is a setting of.
        written: Whether the file says it.
    """

    file: str
    variable: str
    value: Any
    component: str
    written: bool = True

    @property
    def text(self) -> str:
        """The value for people, on one line."""
        if isinstance(self.value, float) and self.value.is_integer():
            return str(int(self.value))
        bare = isinstance(self.value, str) and self.value
        return str(self.value) if bare else json.dumps(self.value, ensure_ascii=False)


def variables_of(folder: Path, plugins: Plugins, job: JobFile | None = None) -> list[Variable]:
    """All that can be changed in the job in *folder*, with the values that hold now.

    *job* is its job file, where that was read already.

    Raises:
        UsageError: There is no job file, or more than one.
        ConfigError: The job file is wrong.
    """
    job = job or read_job_file(folder)
    found = list(_of_job(job.name, job.data, job.spec, plugins))
    for name in settings_files(folder)[1:]:
        if (folder / name).stat().st_size > _MOST_BYTES:
            continue
        try:
            found += [Variable(name, key, value, "code") for key, value in _leaves(read_file(folder / name))]
        except ConfigError:
            continue  # the script's own business: it need not be a settings file at all
    return found


def _of_job(file: str, data: Mapping[str, Any], spec: JobSpec, plugins: Plugins) -> Iterator[Variable]:
    said = plain(spec)
    elsewhere = ("scripts", "timeouts", "workflow_settings", "aggregator_settings")
    for name in (field.name for field in attrs.fields(JobSpec) if field.name not in elsewhere):
        if name in ("workflow", "aggregator"):
            yield from _of_component(file, data, said, name, plugins)
        else:
            yield Variable(file, name, said[name], "job", name in data)
    yield from _of_scripts(file, data, spec)
    given = data.get("timeouts", {})
    for field in attrs.fields(TimeoutSpec):
        yield Variable(file, f"timeouts.{field.name}", said["timeouts"][field.name], "timeouts", field.name in given)


def _of_component(
    file: str, data: Mapping[str, Any], said: Mapping[str, Any], kind: str, plugins: Plugins
) -> Iterator[Variable]:
    """The name of a workflow or aggregator, and its settings where the file has them or would take them."""
    together = isinstance(data.get(kind), Mapping)
    given = said[f"{kind}_settings"]
    yield Variable(file, f"{kind}.name" if together else kind, said[kind], kind, kind in data)
    settings = dict(given)
    if any(one.name == said[kind] for one in plugins.offers(f"{kind}s")):
        settings = attrs.asdict(plugins.check(f"{kind}s", said[kind], given))
    for key, value in settings.items():
        yield Variable(file, f"{kind}{'' if together else '_settings'}.{key}", plain(value), said[kind], key in given)


def _of_scripts(file: str, data: Mapping[str, Any], spec: JobSpec) -> Iterator[Variable]:
    """What holds for all sites, complete; of single sites, what is different."""
    scripts = data.get("scripts", {})
    general = spec.scripts.get(DEFAULT_SITE)
    if general is not None:
        inside = DEFAULT_SITE in scripts
        yield from _of_script(
            file, ("scripts", DEFAULT_SITE) if inside else (), scripts.get(DEFAULT_SITE, data), general
        )
    for site, entry in scripts.items():
        if site != DEFAULT_SITE:
            rows = _of_script(file, ("scripts", site), entry, spec.scripts[site], component=site)
            yield from (row for row in rows if row.written)


def _of_script(
    file: str, place: tuple[str, ...], given: Mapping[str, Any], script: ScriptSpec, component: str = "script"
) -> Iterator[Variable]:
    needs = given.get("needs", {})
    for key, value in attrs.asdict(script).items():
        if key == "env" and value:
            for name, text in value.items():
                yield Variable(file, join_key((*place, key, name)), text, component, name in given.get("env", {}))
            continue
        inside = key in _NEEDS and (not place or key not in given)
        where = (*place, "needs", key) if inside else (*place, key)
        yield Variable(file, join_key(where), plain(value), component, key in given or key in needs)


def _leaves(data: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Values by their dotted keys; a list is one value."""
    if isinstance(data, Mapping) and (data or not place):
        for key, value in data.items():
            yield from _leaves(value, (*place, key))
    elif place:
        yield join_key(place), plain(data)
