"""The folder that a user submits: its job file, and the files below ``code/``."""

from __future__ import annotations

import ast
import datetime
import shlex
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from flpoc.errors import ConfigError, FlpocError, JobError, UsageError, did_you_mean
from flpoc.filtering import FilterSpec
from flpoc.jobs.contents import CODE, collect_and_pack, collect_files
from flpoc.jobs.paths import check_paths
from flpoc.jobs.spec import DEFAULT_SITE, JobSpec, ScriptSpec
from flpoc.settings import plain, read_file, structure, structure_named
from flpoc.tracking import TrackerSpec

__all__ = [
    "CODE", "JOB_FILES", "JobFile", "check_code", "collect_and_pack", "collect_files", "find_job_folder", "job_file",
    "read_job", "read_job_file",
]  # fmt: skip

#: What a job file may be called.
JOB_FILES = ("job.conf", "job.json", "job.yml", "job.yaml")

_NEEDS = ("cpus", "memory_gib", "gpus")
#: What stands at the top level, for all sites.
_SHORT = (*(field.name for field in attrs.fields(ScriptSpec) if field.name not in _NEEDS), "needs")
_MAX_SOURCE = 4 << 20


def find_job_folder(path: Path) -> tuple[Path, str]:
    """Find the folder with the job file: *path* itself, or its only visible sub-folder that has one.

    Returns:
        The folder, and a line for people when it is not *path* itself.

    Raises:
        UsageError: There is no job file, or more than one.
        JobError: The folder is a job of another framework.
    """
    if not path.is_dir():
        what = "not a folder" if path.exists() else "no such folder"
        raise UsageError(f"{path}: {what}", hint="give the folder that has the job file")
    if job_file(path) is not None:
        return path, ""
    folders = [found for found in sorted(path.iterdir()) if found.is_dir() and not found.name.startswith((".", "__"))]
    found = [folder for folder in folders if job_file(folder) is not None]
    if len(found) == 1:
        return found[0], f"the job is in {found[0]}"
    if found:
        names = ", ".join(folder.name for folder in found)
        raise UsageError(f"{path}: has no job file, and several folders have one: {names}", hint="name one of them")
    for folder in (path, *folders):
        _refuse_foreign(folder)
    raise UsageError(
        f"{path}: no job file", hint=f"a job folder has one of {', '.join(JOB_FILES)}, and its scripts in {CODE}/"
    )


def job_file(folder: Path) -> Path | None:
    """The job file in *folder*; None if there is none.

    Raises:
        UsageError: There is more than one.
    """
    found = [folder / name for name in JOB_FILES if (folder / name).is_file()]
    if len(found) > 1:
        raise UsageError(f"{folder}: has {' and '.join(one.name for one in found)}", hint="keep one of them")
    return found[0] if found else None


def _refuse_foreign(folder: Path) -> None:
    if (folder / "meta.json").is_file() and any(folder.glob("*/config")):
        raise JobError(
            f"{folder}: has meta.json and app/config: this is a job of another framework",
            code="JOB_INVALID",
            hint="export it from its recipe: `flpoc recipe export job.py --export-dir DIR`",
        )


def read_job(folder: Path) -> JobSpec:
    """Read the job file of *folder* and check that what it names is there.

    Besides the attributes of :class:`JobSpec` a job file may say ``script``,
    ``args``, ``command``, ``env`` and ``needs`` at its top level, for all
    sites; entries of ``scripts`` then only say what is different. ``workflow``
    and ``aggregator`` are a name, or a name with settings, and so is each of
    ``filters`` and ``tracking``.

    Raises:
        ConfigError: The job file is wrong (names file and key), or scripts
            are missing or cannot be compiled (all problems at once).
        UsageError: There is no job file, or more than one.
    """
    return read_job_file(folder).spec


@attrs.frozen
class JobFile:
    """A job file that was read.

    Attributes:
        name: Its name in the job folder.
        spec: The job, complete.
        data: What the file says, before defaults are filled in.
    """

    name: str
    spec: JobSpec
    data: dict[str, Any]


def read_job_file(folder: Path) -> JobFile:
    """Like :func:`read_job`; gives the file as well."""
    path = job_file(folder)
    if path is None:
        raise UsageError(f"{folder}: no job file", hint=f"it is called one of {', '.join(JOB_FILES)}")
    data = read_file(path)
    try:
        if not isinstance(data, dict):
            raise ConfigError("is not a set of settings")
        spec = _spec(_plain_values(data, ""))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from None
    if problems := check_code(folder, spec):
        text = problems[0] if len(problems) == 1 else f"{len(problems)} problems: {'; '.join(problems)}"
        raise ConfigError(f"{path}: {text}", hint=f"scripts are below {folder / CODE}", data={"problems": problems})
    return JobFile(path.name, spec, data)


def _spec(data: dict[str, Any]) -> JobSpec:
    known = {field.name for field in attrs.fields(JobSpec)} | set(_SHORT)
    for key in data:
        if key not in known:
            raise ConfigError(f"{key}: no such setting", hint=did_you_mean(key, known))
    default = {key: data.pop(key) for key in _SHORT if key in data}
    for key in ("workflow", "aggregator"):
        _split_settings(data, key)
    if "tracking" in data:
        data["tracking"] = [plain(one) for one in structure_named(data["tracking"], TrackerSpec, "tracking")]
    if "filters" in data:
        data["filters"] = [plain(one) for one in structure_named(data["filters"], FilterSpec, "filters")]
    data["scripts"] = {site: attrs.asdict(script) for site, script in _scripts(data, default).items()}
    try:
        return structure(data, JobSpec)
    except ConfigError as error:
        if error.message.startswith("Object missing"):
            raise ConfigError("name: is missing", hint="give the job a name: name = my-job") from None
        raise


def _split_settings(data: dict[str, Any], key: str) -> None:
    """``workflow { name = fedavg, x = 1 }`` is the workflow ``fedavg`` with ``workflow_settings { x = 1 }``."""
    value = data.get(key)
    if not isinstance(value, dict):
        return
    if f"{key}_settings" in data:
        raise ConfigError(f"{key}_settings: given twice", hint=f"write the settings into {key} {{ ... }} alone")
    value = dict(value)
    if "rounds" in value and key == "workflow":
        raise ConfigError("workflow.rounds: no such setting", hint="write rounds at the top level of the job file")
    data[key] = value.pop("name", {"workflow": "fedavg", "aggregator": "mean"}[key])
    data[f"{key}_settings"] = value


def _scripts(data: dict[str, Any], default: dict[str, Any]) -> dict[str, ScriptSpec]:
    entries = data.get("scripts", {})
    if not isinstance(entries, Mapping):
        raise ConfigError("scripts: is not a set of sites", hint='scripts { site-1 { script = "train.py" } }')
    if default and DEFAULT_SITE in entries:
        raise ConfigError(
            f"scripts.{DEFAULT_SITE}: given twice, there is also {next(iter(default))!r} at the top level",
            hint="write what holds for all sites in one place",
        )
    general = _flat(entries.get(DEFAULT_SITE, default), f"scripts.{DEFAULT_SITE}" if not default else "")
    found = {}
    if default and ("script" in general or not entries):
        found[DEFAULT_SITE] = _script(general, "")
    for site, entry in entries.items():
        found[site] = _script({**general, **_flat(entry, f"scripts.{site}")}, f"scripts.{site}")
    if not found:
        raise ConfigError("script: is missing", hint='say what the sites run: script = "train.py"')
    return found


def _script(entry: dict[str, Any], where: str) -> ScriptSpec:
    if "script" not in entry:
        raise ConfigError(
            f"{where}{'.' if where else ''}script: is missing", hint='say what the site runs: script = "train.py"'
        )
    try:
        return structure(entry, ScriptSpec, where=where)
    except ConfigError as error:
        quoted = "Expected `str`" in error.message
        raise ConfigError(error.message, hint="put it in quotes" if quoted and not error.hint else error.hint) from None


def _flat(entry: Any, where: str) -> dict[str, Any]:
    """One site's entry with ``needs`` laid open and arguments as lists."""
    dot = f"{where}." if where else ""
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where or 'job file'}: is not a set of settings")
    flat = dict(entry)
    known = {field.name for field in attrs.fields(ScriptSpec)} | {"needs"}
    needs = flat.pop("needs", {})
    if not isinstance(needs, Mapping):
        raise ConfigError(f"{dot}needs: is not a set of settings", hint="needs { cpus = 1, memory_gib = 2 }")
    for key in flat:
        if key not in known:
            raise ConfigError(f"{dot}{key}: no such setting", hint=did_you_mean(key, known))
    for key, value in needs.items():
        if key not in _NEEDS:
            raise ConfigError(f"{dot}needs.{key}: no such setting", hint=did_you_mean(key, _NEEDS))
        if key in flat:
            raise ConfigError(f"{dot}{key}: given twice, there is also {dot}needs.{key}")
        flat[key] = value
    env = flat.get("env")
    for key, value in env.items() if isinstance(env, Mapping) else ():
        if not isinstance(value, str):
            raise ConfigError(f"{dot}env.{key}: {value!r} is not text", hint="put it in quotes")
    for key in ("args", "command"):
        if isinstance(flat.get(key), str):
            try:
                flat[key] = shlex.split(flat[key])
            except ValueError as error:
                raise ConfigError(f"{dot}{key}: {error}", hint="close the quotation, or write a list") from None
    return flat


def _plain_values(value: Any, where: str) -> Any:
    """The data as JSON has it; a duration (``10 m`` in HOCON) is its seconds."""
    if isinstance(value, Mapping):
        return {key: _plain_values(inner, f"{where}.{key}" if where else str(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain_values(inner, f"{where}[{place}]") for place, inner in enumerate(value)]
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise ConfigError(f"{where}: {value!r} is neither text nor a number", hint="put it in quotes")


def check_code(folder: Path, spec: JobSpec) -> list[str]:
    """Look whether what a job names is below ``code/`` and compiles; nothing of it is run."""
    problems: dict[str, None] = {}
    for site, script in spec.scripts.items():
        path = f"{CODE}/{script.script}"
        if problem := _missing(folder, path):
            problems[f"scripts.{site}.script: {problem}"] = None
        elif path.endswith(".py"):
            problems.update(dict.fromkeys(_syntax_problems(folder / path)))
    if spec.initial_model and (problem := _missing(folder, f"{CODE}/{spec.initial_model}")):
        problems[f"initial_model: {problem}"] = None
    return list(problems)


def _missing(folder: Path, path: str) -> str:
    try:
        check_paths([path])
    except FlpocError as error:
        return error.message
    found = folder / path
    if found.is_symlink() or not found.is_file():
        return f"{path}: {'a link' if found.is_symlink() else 'not a file' if found.exists() else 'no such file'}"
    return ""


def _syntax_problems(script: Path) -> Iterator[str]:
    """Compile a script and the modules beside it that it imports at once."""
    waiting, seen = [script], {script}
    while waiting:
        path = waiting.pop()
        name = path.relative_to(script.parent)
        if path.stat().st_size > _MAX_SOURCE:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(path.read_bytes(), str(name))
                compile(tree, str(name), "exec", dont_inherit=True)
        except SyntaxError as error:
            yield f"{CODE}/{name}: line {error.lineno}: {error.msg}"
            continue
        except (ValueError, RecursionError, MemoryError, OSError) as error:
            yield f"{CODE}/{name}: cannot be compiled ({str(error) or type(error).__name__})"
            continue
        for module in _imported(tree):
            for inner in (module + ".py", module + "/__init__.py"):
                found = script.parent / inner
                if found not in seen and found.is_file():
                    seen.add(found)
                    waiting.append(found)


def _imported(tree: ast.Module) -> Iterator[str]:
    """Modules, as paths, that are imported when the module itself is."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name.replace(".", "/") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.replace(".", "/")
