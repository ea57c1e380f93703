"""Making a job folder from a template: everything beside its place, checked, then put there."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from flpoc.errors import ConfigError, FlpocError, UsageError, did_you_mean
from flpoc.jobs.contents import CODE, list_files
from flpoc.jobs.folder import JOB_FILES, JobFile, job_file, read_job_file
from flpoc.jobs.names import JOB_NAME
from flpoc.jobs.overrides import Key, Override, join_key, parse_pair, rewritten
from flpoc.jobs.paths import Limits
from flpoc.jobs.spec import JobSpec
from flpoc.settings import read_text

if TYPE_CHECKING:
    from flpoc.jobs.templates import Template
    from flpoc.plugins import Plugins

#: Files below code/ with settings that can be changed, too.
SETTINGS_SUFFIXES: Final = (".conf", ".json", ".yml", ".yaml")


@attrs.frozen
class Wanted:
    """What job is to be made.

    Attributes:
        folder: Where.
        template: From what.
        scripts: A folder whose files take the place of the template's code; None for the template's own.
        changes: For each file of the job (``job.conf``) the values that are to be other than in the template.
        force: Replace the job that is there.
    """

    folder: Path
    template: Template
    scripts: Path | None = None
    changes: Mapping[str, Sequence[Override]] = attrs.field(factory=dict)
    force: bool = False


@attrs.frozen
class Created:
    """What was made.

    Attributes:
        folder: The job folder.
        status: ``created``, ``replaced``; or ``kept``, where a job was there and its configuration was left as it is.
        warnings: What a user should know.
        job: Its job file; None for one that cannot be used.
    """

    folder: Path
    status: str
    warnings: tuple[str, ...]
    job: JobFile | None


def parse_changes(groups: Sequence[Sequence[str]]) -> dict[str, list[Override]]:
    """Read what was given with ``-f``: each time a file, then pairs.

    Raises:
        UsageError: A file or a pair is missing, or is none.
    """
    found: dict[str, list[Override]] = {}
    for file, *pairs in groups:
        if "=" in file:
            raise UsageError(f"-f: the file is missing before {file!r}", hint=f"for example: -f job.conf {file}")
        if not pairs:
            raise UsageError(f"-f {file}: nothing to change", hint=f"for example: -f {file} rounds=10")
        found.setdefault(file.removeprefix("./"), []).extend(parse_pair(pair) for pair in pairs)
    return found


def create_job(wanted: Wanted, plugins: Plugins) -> Created:
    """Make a job folder; all of it, or nothing.

    Raises:
        UsageError: A folder cannot be used for this, or a value is for nothing that the job has.
        ConfigError: What would be made is no job.
        FlpocError: It cannot be written.
    """
    folder = wanted.folder.expanduser().resolve()
    scripts = _scripts(wanted, folder)
    there = _what_is_there(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _staging(folder) as made:
            if there == "job" and not wanted.force:
                return _kept(folder, made, scripts, wanted)
            warnings = _build(made, folder.name, wanted, scripts)
            job = _check(made, plugins, scripts, wanted.changes)
            _publish(made, folder)
    except OSError as error:
        raise FlpocError(
            f"{error.filename2 or error.filename or folder}: the job cannot be written: {error.strerror or error}",
            code="OUTPUT_DIR_NOT_WRITABLE",
            hint="choose another folder with -j",
        ) from error
    return Created(folder, "replaced" if there == "job" else "created", tuple(warnings), job)


def _what_is_there(folder: Path) -> str:
    """``job``, or empty; refuses what is neither, whether or not it may be replaced: it is somebody's."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-j: {folder} is a file", hint="give the folder of the new job")
    if not folder.exists() or not any(folder.iterdir()):
        return ""
    if any((folder / name).is_file() for name in JOB_FILES):
        return "job"
    raise UsageError(f"-j: {folder} is not empty, and it is no job", hint="give a new folder")


def _scripts(wanted: Wanted, folder: Path) -> Path:
    """The folder of the job's code; refuses one that would be copied into itself."""
    template = wanted.template.folder.resolve()
    if folder == template or folder.is_relative_to(template):
        raise UsageError(f"-j: {folder} lies in the template {template}", hint="give a folder elsewhere")
    if wanted.scripts is None:
        return template / CODE
    scripts = wanted.scripts.expanduser()
    if not scripts.is_dir():
        what = "not a folder" if scripts.exists() else "no such folder"
        raise UsageError(f"-sd: {scripts}: {what}", hint="give the folder with the job's scripts")
    scripts = scripts.resolve()
    if folder == scripts or folder.is_relative_to(scripts):
        raise UsageError(f"-sd: the job folder {folder} lies in the script folder {scripts}", hint="give -j elsewhere")
    return scripts


@contextlib.contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A folder to build in, on the same disk as the job's, gone afterwards with what is left in it."""
    staging = (folder if folder.exists() else folder.parent) / f".{folder.name[:100]}.{os.urandom(4).hex()}"
    made = staging / "new"
    made.mkdir(parents=True)
    try:
        yield made
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _build(made: Path, name: str, wanted: Wanted, scripts: Path) -> list[str]:
    source = job_file(wanted.template.folder)
    assert source is not None
    shutil.copyfile(source, made / source.name)
    _copy(scripts, made / CODE)
    named = [Override(("name",), name, f'"{name}"')] if JOB_NAME.match(name) else []
    changes = {source.name: named, **wanted.changes}
    changes[source.name] = [*named, *wanted.changes.get(source.name, ())]
    return [warning for file, values in changes.items() for warning in _change(made, source.name, file, values)]


def _copy(scripts: Path, into: Path) -> None:
    """Copy what belongs to a job's code: no links, no keys, nothing that only a tool has made."""
    for path in list_files(scripts, Limits())[0]:
        target = into / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(scripts / path, target, follow_symlinks=False)
    into.mkdir(exist_ok=True)


def _change(made: Path, job: str, file: str, values: Sequence[Override]) -> list[str]:
    known = settings_files(made)
    if file not in known:
        raise UsageError(
            f"-f: the job has no file {file!r}", hint=did_you_mean(file, known, f"there is {', '.join(known)}")
        )
    if not values:
        return []
    path = made / file
    try:
        text, has_comments = rewritten(read_text(path), Path(file), values, _of_job if file == job else _known_key)
    except ConfigError as error:
        said = error.message if error.message.startswith(file) else f"{file}: {error.message}"
        raise ConfigError(said, hint=error.hint) from None
    path.write_text(text, encoding="utf-8")
    return [] if has_comments else [f"{file} was written anew, without its comments."]


def settings_files(folder: Path) -> list[str]:
    """The files of a job in which values can be changed: the job file first, then those below code/."""
    job = job_file(folder)
    code = folder / CODE
    below = [
        path.relative_to(folder).as_posix() for path in sorted(code.rglob("*")) if path.suffix in SETTINGS_SUFFIXES
    ]
    return [*([job.name] if job is not None else []), *(one for one in below if (folder / one).is_file())]


def _of_job(data: Mapping[str, Any], key: Key) -> Key:
    """Where a key of the job file is: settings of workflow and aggregator stand in one of two places."""
    head, *rest = key
    kind = head.removesuffix("_settings")
    if kind not in ("workflow", "aggregator") or not rest:
        return key
    if isinstance(data.get(kind), Mapping):
        return (kind, *rest)
    return (kind,) if rest == ["name"] else (f"{kind}_settings", *rest)


def _known_key(data: Mapping[str, Any], key: Key) -> Key:
    """In a file that flpoc knows nothing about, only what is there can be changed."""
    found: Any = data
    for depth, part in enumerate(key):
        if not isinstance(found, Mapping) or part not in found:
            known = [join_key((*key[:depth], one)) for one in found] if isinstance(found, Mapping) else []
            raise ConfigError(f"{join_key(key)}: no such setting", hint=did_you_mean(join_key(key), known))
        found = found[part]
    return key


def _check(made: Path, plugins: Plugins, scripts: Path, changes: Mapping[str, Sequence[Override]]) -> JobFile:
    """Refuse what `flpoc job submit` would refuse."""
    try:
        job = read_job_file(made)
        check_settings(job.spec, plugins)
    except FlpocError as error:
        message = error.message.replace(f"{made}/", "")
        hint = error.hint.replace(f"{made}/", "")
        if f"{CODE}/" in message:
            hint = f"correct it in {scripts}"
            others = sorted(path.name for path in scripts.glob("*.py"))
            if "no such file" in message and others:
                hint = f"say which script the sites run: -f job.conf script={others[0]}"
        elif not hint and changes:
            hint = "no job was made; correct what is given with -f"
        raise type(error)(message, hint=hint, code=error.code) from None
    return job


def check_settings(spec: JobSpec, plugins: Plugins) -> None:
    """Refuse settings that the job's workflow or aggregator does not have, as far as these are installed here.

    Raises:
        ConfigError: A setting is wrong; names it.
    """
    parts = (
        ("workflow", spec.workflow, spec.workflow_settings),
        ("aggregator", spec.aggregator, spec.aggregator_settings),
    )
    for kind, name, settings in parts:
        if any(one.name == name for one in plugins.offers(f"{kind}s")):
            plugins.check(f"{kind}s", name, settings)


def _publish(made: Path, folder: Path) -> None:
    """Put the job in its place; of one that is there, job file and code give way, and the rest stays."""
    if not folder.exists():
        made.rename(folder)
        return
    aside = made.with_name("old")
    aside.mkdir()
    moves = [(folder / name, aside / name) for name in (*JOB_FILES, CODE) if os.path.lexists(folder / name)]
    moves += [(one, folder / one.name) for one in sorted(made.iterdir())]
    done: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            source.rename(target)
            done.append((source, target))
    except OSError:
        for source, target in reversed(done):
            target.rename(source)
        raise


def _kept(folder: Path, made: Path, scripts: Path, wanted: Wanted) -> Created:
    """Leave the configuration of a job as it is; scripts that were given are put into its code, one by one."""
    existing = job_file(folder)
    assert existing is not None
    warnings = [f"{existing} is there already and was left as it is; -force replaces the job."]
    if wanted.changes:
        warnings.append(f"What was given with -f was not written. Edit {existing.name}, or give -force.")
    if wanted.scripts is not None:
        _copy(scripts, made / CODE)
        for path in sorted((made / CODE).rglob("*")):
            if path.is_file():
                target = folder / CODE / path.relative_to(made / CODE)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)
    job = None
    try:
        job = read_job_file(folder)
    except FlpocError as error:
        warnings.append(f"The job cannot be submitted as it is: {error.message}")
    return Created(folder, "kept", tuple(warnings), job)
