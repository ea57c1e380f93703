"""The catalogue: bad inputs and security items, what each must lead to, and which tests show it.

A section is a file of ``rows/``; a row is a table of it::

    [C1]
    what = "an unknown sub-command"
    expect = "INVALID_ARGS, with the nearest name"

A row that waits for something has ``later = "..."`` saying for what. A test
says which rows it shows: ``@pytest.mark.row("C1", "C2")``.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[2]
ROWS = Path(__file__).resolve().parent / "rows"
#: In the order in which they are printed.
SECTIONS = "CGJAKWPSD"


@attrs.frozen
class Row:
    """One entry of the catalogue.

    Attributes:
        id: Letter of its section and number: ``C1``.
        what: What is given, or promised.
        expect: What must come of it.
        later: What it waits for; empty if it applies now.
        why: Why it is expected so, where a reader might ask; may be empty.
    """

    id: str
    what: str
    expect: str
    later: str = ""
    why: str = ""


@attrs.frozen
class Section:
    """A file of rows."""

    letter: str
    title: str
    rows: tuple[Row, ...]


@attrs.frozen
class Mark:
    """A test, or one of its cases, that says which row it shows."""

    row: str
    path: Path
    line: int


def sections() -> list[Section]:
    """Read all rows there are."""
    found = []
    for letter in SECTIONS:
        path = ROWS / f"{letter}.toml"
        if path.exists():
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
            title = tables.pop("title")
            found.append(Section(letter, title, tuple(Row(id=name, **one) for name, one in tables.items())))
    return found


def rows() -> dict[str, Row]:
    return {row.id: row for section in sections() for row in section.rows}


def marks() -> list[Mark]:
    """Find all markers in the tests of this repository, without importing any."""
    places = [ROOT / "core" / "tests", *sorted(ROOT.glob("plugins/*/tests")), ROOT / "tests", ROOT / "docs"]
    return [mark for place in places for path in sorted(place.rglob("test_*.py")) for mark in _marks_of(path)]


def _marks_of(path: Path) -> Iterator[Mark]:
    text = path.read_text(encoding="utf-8")
    if "mark.row" not in text:
        return
    nodes = list(ast.walk(ast.parse(text, str(path))))
    tables = _tables_in(nodes)
    names = {
        "pytest.mark.row",
        *(name for name, (value, *_) in tables.items() if ast.unparse(value) == "pytest.mark.row"),
    }
    for node in nodes:
        if isinstance(node, ast.Call) and ast.unparse(node.func) in names:
            for row in sorted({row for word in node.args for row in _rows_in(word, tables)}):
                yield Mark(row, path, node.lineno)


def _tables_in(nodes: list[ast.AST]) -> dict[str, list[ast.expr]]:
    """What is assigned to each name of a module, or added to it."""
    found: dict[str, list[ast.expr]] = defaultdict(list)
    for node in nodes:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                found[ast.unparse(target)].append(node.value)
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign)) and node.value is not None:
            found[ast.unparse(node.target)].append(node.value)
    return found


def _rows_in(word: ast.expr, tables: dict[str, list[ast.expr]]) -> set[str]:
    """The rows that an argument of a marker can be: as it stands, or out of a table of the module."""
    if isinstance(word, ast.Constant):
        return {str(word.value)}
    used = [value for one in ast.walk(word) if isinstance(one, ast.Name) for value in tables.get(one.id, ())]
    texts = [one.value for tree in (word, *used) for one in ast.walk(tree) if isinstance(one, ast.Constant)]
    return {text for text in texts if isinstance(text, str) and re.fullmatch(rf"[{SECTIONS}]\d+", text)}
