"""YAML as plain data: what it says, and nothing that it might be guessed to mean."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from flpoc.errors import ConfigError

_PLAIN_INT = re.compile(r"[-+]?(0|[1-9][0-9]*|0x[0-9a-fA-F]+)\Z")
_DEPTH = 64


def parse_yaml(text: str, path: Path) -> Any:
    """Parse YAML; aliases, tags, merges, duplicate keys and numbers of two readings are refused.

    Raises:
        ConfigError: It cannot be taken; the message names the file and the line.
    """
    try:
        return yaml.load(text, Loader=_Strict)  # noqa: S506 - a stricter SafeLoader
    except _RefusedError as error:
        raise ConfigError(f"{path}: line {error.line}: {error.message}", hint=error.hint) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigError(f"{path}: line {line}: {error.problem}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None


class _RefusedError(ConfigError):
    """Something that is YAML, but not taken here."""

    def __init__(self, place: Any, message: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.line = place.start_mark.line + 1


class _Strict(yaml.SafeLoader):  # type: ignore[misc]
    """Plain data only."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise _RefusedError(event, "aliases are not allowed", "write the value again")
        if getattr(event, "tag", None) not in (None, "!"):
            raise _RefusedError(event, f"tags ({event.tag}) are not allowed")
        self.depth += 1
        if self.depth > _DEPTH:
            raise _RefusedError(event, "nested too deeply")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key.value, str):
                raise _RefusedError(key, "a key is not text")
            if key.value == "<<":
                raise _RefusedError(key, "merges (<<) are not allowed", "write the keys themselves")
            if key.value in seen:
                raise _RefusedError(key, f"key {key.value!r} is given twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def whole_number(self, node: Any) -> Any:
        # YAML 1.1 takes 012 for ten and 1:30 for ninety: nobody means that
        if not _PLAIN_INT.match(node.value):
            hint = "write it in quotes, or as a plain number"
            raise _RefusedError(node, f"{node.value} can be read in two ways", hint)
        return self.construct_yaml_int(node)


_Strict.add_constructor("tag:yaml.org,2002:int", _Strict.whole_number)
