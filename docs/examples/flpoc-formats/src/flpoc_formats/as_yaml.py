"""The envelope of json as YAML."""

from __future__ import annotations

from typing import Any

import yaml

from flpoc.errors import FlpocError
from flpoc.formatting import Formatter, Report, envelope


class YamlFormatter(Formatter):
    """One YAML document, with the same keys and values as ``--format json``."""

    def report(self, report: Report) -> str:
        return _document(envelope(report))

    def error(self, error: FlpocError) -> tuple[str, str]:
        return _document(envelope(error)), ""


class _Dumper(yaml.SafeDumper):
    """Lines of text as a block, and no references: what is there twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _document(said: dict[str, Any]) -> str:
    # letters beyond ASCII are escaped: a reader gets every one back, a terminal gets no control character
    return yaml.dump(said, Dumper=_Dumper, sort_keys=False, width=float("inf"))
