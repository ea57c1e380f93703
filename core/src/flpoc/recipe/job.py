"""A job as a recipe makes it, and the folder that it becomes."""

from __future__ import annotations

import ast
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from flpoc.errors import FlpocError

#: The initial model, below ``code/``.
INITIAL_MODEL: Final = "initial_model.safetensors"


@attrs.frozen
class Job:
    """A job before it is written.

    Attributes:
        name: Name of the job, and of its folder.
        settings: What else the job file says.
        scripts: Where the scripts are on this machine; in the job they stand in ``code/`` by their names alone.
        model: The model to start from, arrays by name; None if the sites start from their own.
    """

    name: str
    settings: Mapping[str, Any]
    scripts: tuple[str, ...]
    model: Mapping[str, Any] | None = None

    def write(self, folder: Path) -> None:
        """Write the job file and ``code/`` into an empty folder.

        Modules that stand beside a script and are imported by it come along.

        Raises:
            FlpocError: A script is not there, or two have one name; code RECIPE_EXPORT_FAILED.
        """
        from flpoc.jobs.contents import CODE

        said: dict[str, Any] = {"name": self.name, **self.settings}
        for place, source in self._files().items():
            target = folder / CODE / place
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        if self.model is not None:
            from flpoc.models.tensors import write_tensors

            write_tensors(folder / CODE / INITIAL_MODEL, self.model)
            said["initial_model"] = INITIAL_MODEL
        (folder / "job.conf").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")

    def _files(self) -> dict[str, Path]:
        """Sources by path below ``code/``."""
        found: dict[str, Path] = {}
        for script in self.scripts:
            for place, source in bundle(_there(script)).items():
                if found.setdefault(place, source) != source:
                    raise FlpocError(
                        f"{found[place]} and {source} would both be {place} in the job",
                        code="RECIPE_EXPORT_FAILED",
                        hint="rename one of them",
                    )
        return found


def _there(script: str) -> Path:
    """Find a script: in the working directory, or beside the program that makes the recipe."""
    path = Path(script).expanduser()
    for found in (path, Path(sys.argv[0]).parent / path):
        if found.is_file():
            return found.resolve()
    raise FlpocError(
        f"{script}: {'not a file' if path.exists() else 'there is no such script'}",
        code="RECIPE_EXPORT_FAILED",
        hint=f"it is looked for in {Path.cwd()}, and beside the program that makes the recipe",
    )


def bundle(script: Path) -> dict[str, Path]:
    """A script and what stands beside it and is imported, by it or by one another; sources by path beside the script.

    Of an imported folder all modules come along. Nothing is run to find out.
    """
    found: dict[str, Path] = {}
    waiting = [script]
    while waiting:
        path = waiting.pop()
        place = path.relative_to(script.parent).as_posix()
        if place in found:
            continue
        found[place] = path
        for name in _imports(path) if path.suffix == ".py" else ():
            waiting += _modules(script.parent, name)
    return found


def _imports(path: Path) -> set[str]:
    """First names of the modules that a file imports anywhere; none if it is no Python."""
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except (SyntaxError, ValueError, RecursionError):
        return set()  # said where the whole job is checked, with the line
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.partition(".")[0] for name in names}


def _modules(folder: Path, name: str) -> Iterator[Path]:
    if (module := folder / f"{name}.py").is_file():
        yield module
    elif (package := folder / name).is_dir():
        yield from (one for one in sorted(package.rglob("*.py")) if one.is_file())
