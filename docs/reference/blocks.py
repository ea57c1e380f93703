"""Pieces of Markdown: tables, and docstrings as prose."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from typing import Any


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in row)} |"
    yield ""


def code(text: Any) -> str:
    return f"`{text}`" if str(text) else ""


def prose(docstring: str) -> Iterator[str]:
    """A docstring as Markdown: roles become code, sections become lists."""
    section = False
    block = False
    for raw in inspect.cleandoc(docstring).splitlines():
        line = re.sub(r":\w+:`[.~]?([^`]+)`", r"`\1`", raw).replace("``", "`")
        indented = line.startswith("    ")
        head = re.fullmatch(r"(Attributes|Args|Raises|Returns):", line)
        if head:
            section = True
            yield from ("", f"**{head.group(1)}**", "")
        elif section and indented:
            item = re.match(r"    (\w+): (.*)", line)
            yield f"- `{item.group(1)}`: {item.group(2)}" if item else f"  {line.strip()}"
        else:
            section = section and not line
            block = indented or (block and not line)
            yield line if block else line.strip()
    yield ""


def attribute_texts(cls: type) -> dict[str, str]:
    """What a class says about its attributes in its docstring."""
    found: dict[str, str] = {}
    lines = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:")[2].splitlines()
    name = ""
    for line in lines:
        start = re.match(r"    (\w+): (.*)", line)
        if start:
            name = start.group(1)
            found[name] = start.group(2)
        elif name and line.startswith("     "):
            found[name] += f" {line.strip()}"
    return {key: value.replace("``", "`") for key, value in found.items()}
