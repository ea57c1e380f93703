"""Importing once, before workers are forked, what their scripts are going to import."""

from __future__ import annotations

import ast
import contextlib
import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path


def preload(code: Path, scripts: Iterable[str]) -> None:
    """Import installed modules that scripts, and modules beside them, import; never the job's own.

    What cannot be imported is left out: the script will say so itself.
    """
    for name in dict.fromkeys(one for script in scripts for one in _named(code / script)):
        with contextlib.suppress(Exception, SystemExit):
            importlib.import_module(name)


def _named(script: Path) -> Iterator[str]:
    """Modules that are imported where a script begins, without those beside it."""
    waiting, seen = [script], {script}
    while waiting:
        path = waiting.pop()
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue
        for name in _imported(tree):
            beside = [script.parent / Path(*name.split(".")) / "__init__.py"]
            beside.append(beside[0].parent.with_suffix(".py"))
            top = script.parent / name.split(".")[0]
            if top.is_dir() or top.with_suffix(".py").is_file():
                fresh = [one for one in beside if one.is_file() and one not in seen]
                seen.update(fresh)
                waiting += fresh
            else:
                yield name


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
