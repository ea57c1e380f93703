"""A job as a recipe makes it, and the folder that it becomes."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from flpoc.aggregating import ModelAggregator
from flpoc.errors import FlpocError
from flpoc.filtering import FilterSpec
from flpoc.jobs.names import CONFIG
from flpoc.recipe.bundling import bundle, script_there, there
from flpoc.recipe.objects import WrittenObject, written
from flpoc.recipe.parameters import json_text, keyed, plain
from flpoc.tracking import TrackerSpec
from flpoc.workflows.persisting import ModelPersistor

#: The initial model, below ``code/``.
INITIAL_MODEL: Final = "initial_model.safetensors"
_GENERAL: Final = "@default"


@attrs.define
class Job:
    """A job before it is written.

    Attributes:
        name: Name of the job, and of its folder.
        settings: What else the job file says.
        scripts: Where the scripts are on this machine; in the job they stand in ``code/`` by their names alone.
        model: The model to start from, arrays by name; None if the sites start from their own.
        files: Other files and folders of this machine, by path below ``code/``.
        texts: Files that are written, by path below ``code/``.
        client_config: What ``flare.get_config()`` says, by site; ``@default`` for all.
        server_config: The same for code that runs in the controller.
        best_model_filename: Under which name the best model is found in the results, too; empty for none.
    """

    name: str
    settings: dict[str, Any] = attrs.field(converter=dict)
    scripts: tuple[str, ...] = ()
    model: Mapping[str, Any] | None = None
    files: dict[str, Path] = attrs.field(factory=dict, converter=dict)
    texts: dict[str, str] = attrs.field(factory=dict, converter=dict)
    client_config: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    server_config: dict[str, Any] = attrs.field(factory=dict)
    best_model_filename: str = ""

    def to_clients(self, obj: Any, tasks: Sequence[str] = ()) -> None:
        """Give something to all sites: a filter of what leaves them, a file or folder, or settings.

        Args:
            obj: A :class:`~flpoc.filtering.FilterSpec`, a path, or keys and values that ``flare.get_config()`` gives.
            tasks: Of a filter: only ``train``, since nothing else leaves a site with a model.

        Raises:
            ValueError: It is something else, or cannot be given so.
        """
        if isinstance(obj, FilterSpec):
            self.add_filter(obj, tasks)
        elif tasks:
            raise ValueError(f"tasks: {type(obj).__name__} is for all tasks of a script")
        elif isinstance(obj, (str, Path)):
            self.add_file(obj)
        elif isinstance(obj, Mapping):
            self.add_config(obj)
        else:
            raise ValueError(
                f"to_clients: {type(obj).__name__} cannot be sent to sites: wanted is a FilterSpec, a path, or settings"
            )

    def to_server(self, obj: Any) -> None:
        """Give something to the controller: an aggregator, a persistor, a tracker, a file or folder, or settings.

        Raises:
            ValueError: It is something else, or cannot be written down.
        """
        if isinstance(obj, ModelAggregator):
            self.settings |= {"aggregator": "code", "aggregator_settings": self.add_object("aggregator", obj)}
        elif isinstance(obj, ModelPersistor):
            self.of_workflow["persistor"] = self.add_object("model_persistor", obj)
        elif isinstance(obj, TrackerSpec):
            self.settings.setdefault("tracking", []).append(attrs.asdict(obj))
        elif isinstance(obj, (str, Path)):
            self.add_file(obj)
        elif isinstance(obj, Mapping):
            self.server_config |= plain("config", obj)
        else:
            raise ValueError(
                f"to_server: {type(obj).__name__} cannot be sent to the server: wanted is a ModelAggregator, "
                "a ModelPersistor, a TrackerSpec, a path, or settings"
            )

    @property
    def of_workflow(self) -> dict[str, Any]:
        """Settings of the workflow."""
        found: dict[str, Any] = self.settings.setdefault("workflow_settings", {})
        return found

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites for which something is said of their own."""
        return tuple(site for site in self.settings.get("scripts", {}) if site != _GENERAL)

    @property
    def named_sites(self) -> dict[str, tuple[str, ...]]:
        """All sites that it names, by the parameter that does."""
        built_in = self.settings.get("aggregator") in ("mean", "fedopt")
        weights = self.settings.get("aggregator_settings", {}).get("weights", ()) if built_in else ()
        evaluation = self.of_workflow.get("cross_site_evaluation", self.of_workflow)
        return {
            "sites": tuple(self.settings.get("sites", ())),
            "per_site_config": self.sites,
            "aggregation_weights": tuple(weights),
            "participating_clients": tuple(evaluation.get("sites", ())),
        }

    def add_object(self, parameter: str, obj: Any) -> dict[str, Any]:
        """Let an object of the user's own class come along; gives how the job names it."""
        kind = ModelPersistor if parameter == "model_persistor" else ModelAggregator
        found: WrittenObject = written(parameter, obj, kind)
        for place, source in bundle(found.source, found.root).items():
            self._put(place, source)
        return found.ref

    def add_filter(self, spec: FilterSpec, tasks: Sequence[str] = ()) -> None:
        """Have the sites apply a filter to what leaves them, after those that the job has."""
        if wrong := [one for one in tasks if one != "train"]:
            raise ValueError(f"tasks: {wrong[0]!r}: only answers to 'train' leave a site with a model")
        settings = plain(f"filter {spec.name}", spec.settings)
        self.settings.setdefault("filters", []).append({"name": spec.name, "settings": settings})

    def add_file(self, path: str | Path) -> None:
        """Let a file, or a folder with all that is in it, come along, by its name."""
        found = there(str(path))
        if found is None:
            raise ValueError(f"{path}: there is no such file or folder")
        if found.is_file():
            self._put(found.name, found)
        for one in sorted(found.rglob("*")) if found.is_dir() else ():
            if one.is_file() and "__pycache__" not in one.parts:
                self._put(one.relative_to(found.parent).as_posix(), one)

    def add_config(self, config: Mapping[str, Any], site: str = _GENERAL) -> None:
        """Let ``flare.get_config()`` say more, at all sites or at one."""
        self.client_config.setdefault(site, {}).update(plain("config", keyed("config", config)))

    def for_call(self, server: Mapping[str, Any] | None, client: Mapping[str, Any] | None) -> Job:
        """A copy for one run: None leaves a configuration as it is, {} empties it, anything else is merged."""
        one = copy.deepcopy(self)
        if server is not None:
            one.server_config = {**one.server_config, **plain("server_exec_params", server)} if server else {}
        if client is not None:
            general = {**one.client_config.get(_GENERAL, {}), **plain("client_exec_params", client)}
            one.client_config = {**one.client_config, _GENERAL: general} if client else {}
        return one

    def missing(self) -> list[str]:
        """Scripts and files that are not there."""
        scripts = [one for one in self.scripts if (found := there(one)) is None or not found.is_file()]
        return [*scripts, *(str(one) for one in self.files.values() if not one.is_file())]

    def write(self, folder: Path) -> None:
        """Write the job file and ``code/`` into an empty folder.

        Modules that stand beside a script and are imported by it come along.

        Raises:
            FlpocError: A script is not there, or two have one name; code RECIPE_EXPORT_FAILED.
        """
        from flpoc.jobs.contents import CODE

        said: dict[str, Any] = {"name": self.name, **self.settings}
        code = folder / CODE
        code.mkdir(exist_ok=True)
        for place, source in self._sources().items():
            (code / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, code / place)
        for place, text in self._texts():
            (code / place).write_text(text, encoding="utf-8")
        if self.model is not None:
            from flpoc.models.tensors import write_tensors

            write_tensors(code / INITIAL_MODEL, self.model)
            said["initial_model"] = INITIAL_MODEL
        (folder / "job.conf").write_text(json_text(said), encoding="utf-8")

    def _texts(self) -> Iterator[tuple[str, str]]:
        yield from self.texts.items()
        if self.client_config or self.server_config:
            yield CONFIG, json_text({"client": self.client_config, "server": self.server_config})

    def _put(self, place: str, source: Path) -> None:
        if self.files.setdefault(place, source) != source:
            raise _twice(self.files[place], source, place)

    def _sources(self) -> dict[str, Path]:
        """Sources by path below ``code/``."""
        found = dict(self.files)
        for script in self.scripts:
            for place, source in bundle(script_there(script)).items():
                if found.setdefault(place, source) != source:
                    raise _twice(found[place], source, place)
        for place in (*self.texts, CONFIG, INITIAL_MODEL):
            if place in found:
                raise FlpocError(f"{found[place]} has a name that jobs use themselves", code="RECIPE_EXPORT_FAILED")
        return found


def _twice(one: Path, other: Path, place: str) -> FlpocError:
    return FlpocError(
        f"{one} and {other} would both be {place} in the job", code="RECIPE_EXPORT_FAILED", hint="rename one of them"
    )
