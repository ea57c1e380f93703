"""``flpoc plugins new``: a working package for every kind of plugin, with its tests."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from string import Template
from typing import Any, Final

import attrs
import click

import flpoc
from flpoc.cli.call import Call
from flpoc.cli.command import Command
from flpoc.errors import ConfigError, FlpocError, UsageError, did_you_mean
from flpoc.formatting import Report
from flpoc.plugins import OFFERS

#: What can be made; each has a file in ``skeletons``.
KINDS: Final = (
    "authority",
    "launcher",
    "framework",
    "filter",
    "cipher",
    "aggregator",
    "workflow",
    "tracker",
    "formatter",
    "simulator",
    "command",
    "kit-file",
    "check",
    "job-template",
    "error-hint",
    "run-event",
)
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST_NAME = 40


class Kind(click.Choice[str]):
    """One of :data:`KINDS`; a wrong one is answered with the right one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        word = str(value).replace("_", "-")
        if word in KINDS:
            return word
        known = ", ".join(KINDS)
        raise UsageError(f"there is no kind of plugin {value!r}", hint=did_you_mean(word, KINDS, f"kinds: {known}"))


@attrs.frozen
class Skeleton:
    """What a kind of plugin begins with.

    Attributes:
        summary: What the plugin does, in one line.
        files: Templates by path; both have the names of the new plugin to be filled in.
        notes: What its README says about it.
    """

    summary: str
    files: Mapping[str, str]
    notes: str = ""


@click.command(
    "new",
    cls=Command,
    examples=("flpoc plugins new aggregator fair-mean", "flpoc plugins new launcher slurm -o plugins"),
    mutating=True,
    idempotent=False,
)
@click.argument("kind", type=Kind(KINDS), metavar="KIND")
@click.argument("name")
@click.option("-o", "--output-dir", default=".", metavar="DIR", help="Where the folder of the package is made.")
@click.pass_obj
def new_plugin(call: Call, kind: str, name: str, output_dir: str) -> Report:
    """Make the package of a new plugin: a small working one of its kind, with its tests.

    NAME is what a project, a job or a command line will call it. The folder
    flpoc-NAME must not exist.

    KIND is authority, launcher, framework, filter, cipher, aggregator,
    workflow, tracker, formatter or simulator; or command, kit-file, check,
    job-template, error-hint or run-event.
    """
    _check_name(name)
    _refuse_taken(call, kind, name)
    parent = Path(output_dir)
    folder = parent / f"flpoc-{name}"
    if os.path.lexists(folder):
        raise UsageError(f"{folder} exists already", hint="choose another name, or another folder with -o")
    files = package(kind, name)
    _write(parent, folder, files)
    data = {"kind": kind, "name": name, "folder": str(folder.resolve()), "files": sorted(files)}
    install = "python -m pip install -e '.[test]'"
    steps = [f"cd {quote(str(folder))}", install, "python -m pytest", f"flpoc plugins check {name}"]
    text = [
        f"Made {folder}: a plugin with the {kind.replace('-', ' ')} {name}.",
        "Next:",
        *(f"  {one}" for one in steps),
    ]
    return Report(data={**data, "next": steps}, text=text)


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) and len(name) <= _LONGEST_NAME and not name.startswith("flpoc-"):
        return
    likely = re.sub("[^a-z0-9]+", "-", name.lower()).removeprefix("flpoc-").lstrip("-0123456789").rstrip("-")
    hint = "short words of small letters and digits, with hyphens between them"
    if _NAME.fullmatch(likely) and likely != name:
        hint = f"{hint}: {likely[:_LONGEST_NAME].rstrip('-')}"
    raise UsageError(f"{name!r} cannot be the name of a plugin", hint=hint)


def _refuse_taken(call: Call, kind: str, name: str) -> None:
    """Refuse a name that would be in somebody's way as soon as the package is installed."""
    try:
        plugins = call.plugins
    except ConfigError:
        return  # a broken configuration is no reason not to write files
    offers = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
    taken = [one.distribution or one.module for one in plugins.records if one.name == name]
    if offers in OFFERS:
        taken += [one.plugin.distribution or one.plugin.module for one in plugins.offers(offers) if one.name == name]
    if taken:
        raise UsageError(f"the name {name!r} is taken by {taken[0]}", hint="choose another name")


def package(kind: str, name: str) -> dict[str, str]:
    """The files of a new package: text by path."""
    folder = Path(flpoc.__file__).parent / "skeletons"
    skeleton, around = read_skeleton(folder / f"{kind}.txt"), read_skeleton(folder / "package.txt")
    words = {
        "name": name,
        "kind": kind.replace("-", " "),
        "package": f"flpoc-{name}",
        "module": f"flpoc_{name.replace('-', '_')}",
        "title": "".join(word.capitalize() for word in name.split("-")),
        "variable": f"{name.replace('-', '_').upper()}_FOLDER",
        "summary": skeleton.summary,
        "versions": _versions(flpoc.__version__),
    }
    words["notes"] = Template(skeleton.notes).substitute(words)
    words["files"] = "".join(
        f"| `{Template(path).substitute(words)}` | {_first_line(text, words)} |\n"
        for path, text in skeleton.files.items()
        if path.endswith(".py") and path.startswith("src/") and not path.endswith("hooks.py")
    )
    files = {**around.files, **skeleton.files}
    return {Template(path).substitute(words): Template(text).substitute(words) for path, text in files.items()}


def _first_line(text: str, words: Mapping[str, str]) -> str:
    line = Template(text.partition("\n")[0].strip('"').removesuffix(".")).substitute(words)
    return line[:1].lower() + line[1:]


def _versions(version: str) -> str:
    """Versions of flpoc with the same interface: 0.1.3 is good for >=0.1,<0.2."""
    major, minor = (int(part) for part in version.split(".")[:2])
    return f">={major}.{minor},<{major}.{minor + 1}" if not major else f">={major}.{minor},<{major + 1}"


def read_skeleton(path: Path) -> Skeleton:
    """Read the file of a skeleton: a summary, notes, and files one after the other."""
    head, *parts = re.split(r"^==> (.+) <==\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    files = dict(zip(parts[::2], parts[1::2], strict=True))
    notes = files.pop("NOTES", "").strip()
    return Skeleton(head.removeprefix("summary: ").strip(), files, notes)


def _write(parent: Path, folder: Path, files: Mapping[str, str]) -> None:
    """Write the package beside its place and put it there by one rename: all of it, or nothing."""
    made: Path | None = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=parent))
        for path, text in files.items():
            place = made / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
        made.chmod(0o777 & ~_umask())
        made.rename(folder)
    except OSError as error:
        why = error.strerror or str(error)
        hint = "choose another folder with -o"
        raise FlpocError(f"{folder} cannot be made: {why}", code="OUTPUT_DIR_NOT_WRITABLE", hint=hint) from error
    finally:
        if made is not None and made.exists():
            shutil.rmtree(made, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
