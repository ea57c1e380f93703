"""What participants, organisations and projects may be called, and what a network address looks like."""

from __future__ import annotations

import ipaddress
import re

from flpoc.errors import ConfigError

_SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_USER = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,188}[A-Za-z0-9])?")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_ORG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")

_STUDY = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")

_SHAPES = {
    "site": (_SITE, "letters, digits, '-' and '_', at most 63, starting with a letter or digit"),
    "user": (_USER, "an e-mail address, such as lead@hospital.org"),
    "server": (_HOST, "a host name, such as fl.hospital.org"),
    "org": (_ORG, "letters, digits, '_', '-' and '.', at most 63"),
    "component": (_PROJECT, "letters, digits, '_', '-' and '.', at most 63, starting with a letter or digit"),
    "study": (_STUDY, "lower case letters, digits, '-' and '_', at most 63, a letter or digit at both ends"),
    "project": (_PROJECT, "letters, digits, '_', '-' and '.', at most 63, starting with a letter or digit"),
}

#: Words that commands use for groups of participants.
_RESERVED = frozenset({"admin", "all"})


def name_problem(kind: str, name: str) -> str:
    """Say what is wrong with the *name* of a participant, org, study, project or component; empty if nothing is."""
    pattern, wanted = _SHAPES[kind]
    if not pattern.fullmatch(name):
        return f"{name[:80]!r} is not a name of a {kind}: wanted is {wanted}"
    lowered = name.casefold()
    if kind in ("server", "site") and lowered in _RESERVED:
        return f"{name!r} is a reserved name"
    if kind == "study" and name == "default":
        return f"{name!r} always exists, and everybody is in it"
    if kind == "site" and lowered == "server":
        return f"{name!r} is a reserved name: a site cannot have it"
    return ""


def is_address(host: str) -> bool:
    """Whether *host* is an IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def check_host(host: str, where: str) -> str:
    """Give *host* without brackets, if it is a host name or an IP address that can be dialled.

    Raises:
        ConfigError: It is neither, or it is an address that only a listener can use.
    """
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if is_address(bare):
        if ipaddress.ip_address(bare).is_unspecified:
            raise ConfigError(
                f"{where}: {host!r} is where a server listens, not where it is found",
                hint="give the host name or address that sites can reach",
            )
        return bare
    if bare != host or not _HOST.fullmatch(host):
        hint = "leave out the scheme and what follows the port" if "/" in host or "@" in host else ""
        raise ConfigError(f"{where}: {host[:80]!r} is not a host name or an IP address", hint=hint)
    return host


def split_address(text: str, default_port: int, where: str) -> tuple[str, int]:
    """Split ``host``, ``host:port`` or ``[address]:port``.

    Raises:
        ConfigError: The host or the port cannot be used; an IPv6 address has no brackets.
    """
    if is_address(text) and ":" in text:
        raise ConfigError(f"{where}: the IPv6 address {text!r} needs brackets", hint=f"write [{text}]")
    found = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?", text)
    if found is None:
        hint = "leave out the scheme" if "/" in text else ""
        raise ConfigError(f"{where}: {text[:80]!r} is not host or host:port", hint=hint)
    host = check_host(found[1], where)
    return host, check_port(int(found[2]), where) if found[2] else default_port


def check_port(port: object, where: str) -> int:
    """Give *port* if it is a port number.

    Raises:
        ConfigError: It is no number between 1 and 65535.
    """
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        raise ConfigError(f"{where}: {port!r} is not a port number", hint="ports are numbers from 1 to 65535")
    return port


def join_address(host: str, port: int) -> str:
    """Write an address as ``host:port``, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
