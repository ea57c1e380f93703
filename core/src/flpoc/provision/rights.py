"""Who may do what: rights of roles, as ``local/authorization.json`` of a server or a site says.

Each server and each site has its own file and decides by it alone. A role
that the file does not name may do nothing there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from flpoc.errors import AuthError, ConfigError, KitError, did_you_mean
from flpoc.provisioning import ROLES

if TYPE_CHECKING:
    from flpoc.provision.identity import Identity

AUTHORIZATION: Final = "authorization.json"

#: Rights by category; a category stands for all of its rights.
CATEGORIES: Final[dict[str, tuple[str, ...]]] = {
    "view": ("check_status", "list_jobs", "get_job_meta", "get_job_log", "show_stats", "show_errors"),
    "manage_job": ("abort_job", "delete_job", "configure_job_log"),
    "operate": (
        "report_resources", "report_env", "report_version", "restart", "shutdown", "disable_client", "enable_client",
        "configure_site_log",
    ),
    "shell_commands": ("read_site_log",),
}  # fmt: skip
SINGLE: Final = ("submit_job", "clone_job", "download_job", "byoc")
RIGHTS: Final = (*SINGLE, *(right for rights in CATEGORIES.values() for right in rights))

#: How a right reads in a sentence before "jobs", or "sites"; others read as they are called.
_VERBS: Final = {
    "submit_job": "submit",
    "clone_job": "copy",
    "download_job": "download",
    "byoc": "run code of their own in",
    "list_jobs": "list",
    "get_job_meta": "look at",
    "get_job_log": "read logs of",
    "show_stats": "see numbers of",
    "show_errors": "see errors of",
    "abort_job": "abort",
    "delete_job": "delete",
    "configure_job_log": "change the logging of",
    "check_status": "see the state of",
    "report_resources": "see the resources of",
    "report_env": "see the environment of",
    "report_version": "see the version of",
    "restart": "restart",
    "shutdown": "shut down",
    "disable_client": "disable",
    "enable_client": "enable",
    "configure_site_log": "change the logging of",
    "read_site_log": "read logs of",
}
_OF_JOBS: Final = (*SINGLE, *CATEGORIES["manage_job"], *CATEGORIES["view"][1:])

#: What holds until the owner of a server or site changes it.
DEFAULT: Final[dict[str, Any]] = {
    "project_admin": "any",
    "org_admin": {
        "submit_job": "none",
        "clone_job": "none",
        "byoc": "none",
        "manage_job": "o:submitter",
        "download_job": "o:submitter",
        "view": "any",
        "operate": "o:site",
        "shell_commands": "o:site",
    },
    "lead": {
        "submit_job": "any",
        "clone_job": "n:submitter",
        "byoc": "any",
        "manage_job": "n:submitter",
        "download_job": "n:submitter",
        "view": "any",
        "operate": "o:site",
        "shell_commands": "o:site",
    },
    "member": {"view": "any"},
}

_ALWAYS: Final = ("any", "all")
_NEVER: Final = ("none", "no")


@attrs.frozen
class About:
    """What somebody wants to act on.

    Attributes:
        site_org: Organisation of the server or site that decides, or is acted on.
        submitter: Who submitted the job that it is about; empty when it is about none.
        submitter_org: That user's organisation.
    """

    site_org: str = ""
    submitter: str = ""
    submitter_org: str = ""


@attrs.frozen
class Permissions:
    """What each role may do at one server or site.

    Attributes:
        roles: Role to an expression, or to a table of right or category to an expression.
        source: Whose file says so, for people elsewhere, who need not know where it lies; empty for the default.
    """

    roles: Mapping[str, Any] = attrs.field(factory=lambda: DEFAULT)
    source: str = ""

    def check(self, who: Identity, right: str, about: About | None = None) -> None:
        """Allow *who* what *right* stands for, or say why not.

        Without *about*, it is asked whether there is anything at all that they may do with this right.

        Raises:
            AuthError: It is not allowed.
        """
        expressions = _expressions(self.roles.get(who.role), right)
        if about is None:
            if any(one not in _NEVER and not one.startswith("not ") for one in expressions):
                return
        elif _holds(expressions, who, about):
            return
        raise AuthError(self._refusal(who, right, about, expressions), hint=self._hint(who, right))

    def why_not(self, who: Identity, right: str) -> str:
        """Why somebody may do nothing at all with a right; empty if there is something."""
        try:
            self.check(who, right)
        except AuthError as error:
            return error.message
        return ""

    def _refusal(self, who: Identity, right: str, about: About | None, expressions: tuple[str, ...]) -> str:
        verb = _VERBS.get(right, right.replace("_", " "))
        what = "jobs" if right in _OF_JOBS else "sites"
        if about is None or all(one in _NEVER for one in expressions):
            return f"the role {who.role} may not {verb} {what}"
        somebody = f"{who.name} ({who.role}) may"
        if "n:submitter" in expressions and about.submitter:
            return f"{somebody} {verb} only jobs of their own; this one is {about.submitter}'s"
        if "o:submitter" in expressions and about.submitter:
            return f"{somebody} {verb} only jobs of {who.org}; this one is of {about.submitter_org}"
        if "o:site" in expressions:
            return f"{somebody} {verb} only {what} of {who.org}; this is one of {about.site_org}"
        return f"{somebody} not {verb} this {what[:-1]} here"

    def _hint(self, who: Identity, right: str) -> str:
        roles = [role for role in self.roles if any(one not in _NEVER for one in _expressions(self.roles[role], right))]
        others = [role for role in sorted(roles) if role != who.role]
        where = f"; {self.source} decides" if self.source else ""
        return f"roles that may: {', '.join(others) or 'no other'}; choose a kit with --kit-id{where}"


def _expressions(rules: Any, right: str) -> tuple[str, ...]:
    """What a role's rules say of a right: of itself before its category; nothing is never."""
    if isinstance(rules, Mapping):
        category = next((name for name, rights in CATEGORIES.items() if right in rights), "")
        rules = rules.get(right, rules.get(category))
    if rules is None:
        return ("none",)
    return (rules,) if isinstance(rules, str) else tuple(rules)


def _holds(expressions: tuple[str, ...], who: Identity, about: About) -> bool:
    """Whether one of them is true, and none of those that begin with ``not``."""
    if any(_true(one.removeprefix("not ").strip(), who, about) for one in expressions if one.startswith("not ")):
        return False
    return any(_true(one, who, about) for one in expressions if not one.startswith("not "))


def _true(expression: str, who: Identity, about: About) -> bool:
    if expression in _ALWAYS:
        return True
    kind, _, name = expression.partition(":")
    mine = {"o": who.org, "n": who.name}.get(kind)
    if mine is None or not name:
        return False
    wanted = {"o:site": about.site_org, "o:submitter": about.submitter_org, "n:submitter": about.submitter}
    return bool(mine) and mine == wanted.get(expression, name)


def read_permissions(local: Path, owner: str) -> Permissions:
    """Read ``authorization.json`` in the folder *local* of the kit of *owner*; a file that is not there says what
    was provisioned.

    Raises:
        ConfigError: It is there and cannot be used: then nothing is allowed to anybody.
    """
    from flpoc.provision.files import read_guarded
    from flpoc.settings import parse_json

    path = local / AUTHORIZATION
    if not path.exists() and not path.is_symlink():
        return Permissions()
    try:
        found = parse_json(read_guarded(path), str(path))
    except KitError as error:
        raise ConfigError(error.message, hint=error.hint) from None
    if not isinstance(found, Mapping):
        raise ConfigError(f"{path}: wanted is an object, not {type(found).__name__}")
    for key in found:
        if key not in ("format", "permissions"):
            raise ConfigError(f"{path}: {key}: no such setting", hint=did_you_mean(str(key), ("format", "permissions")))
    if found.get("format", 1) != 1:
        raise ConfigError(f"{path}: format {found['format']!r}, wanted is 1")
    if "permissions" not in found:
        raise ConfigError(f"{path}: permissions: is missing", hint='{"format": 1, "permissions": {"lead": {...}}}')
    return Permissions(_checked(found["permissions"], f"{path}: permissions"), f"local/{AUTHORIZATION} of {owner}")


def _checked(rules: Any, where: str) -> dict[str, Any]:
    if not isinstance(rules, Mapping):
        raise ConfigError(f"{where}: wanted are roles and what each may do", hint='{"lead": {"submit_job": "any"}}')
    for role, said in rules.items():
        if role not in ROLES:
            raise ConfigError(f"{where}.{role}: no such role", hint=did_you_mean(str(role), ROLES))
        for right, expressions in said.items() if isinstance(said, Mapping) else (("", said),):
            if right and right not in RIGHTS and right not in CATEGORIES:
                known = (*RIGHTS, *CATEGORIES)
                raise ConfigError(f"{where}.{role}.{right}: no such right", hint=did_you_mean(str(right), known))
            _check_expressions(expressions, f"{where}.{role}.{right}".rstrip("."))
    return dict(rules)


def _check_expressions(found: Any, where: str) -> None:
    texts = [found] if isinstance(found, str) else found
    if not isinstance(texts, list) or not texts or not all(isinstance(one, str) for one in texts):
        raise ConfigError(f"{where}: wanted is a text or a list of texts, not {found!r}")
    for one in texts:
        bare = one.removeprefix("not ").strip()
        kind, colon, name = bare.partition(":")
        if bare not in (*_ALWAYS, *_NEVER) and not (kind in ("o", "n") and colon and name):
            hint = "any, none, o:site, o:submitter, o:ORG, n:submitter, n:NAME, each also with 'not ' before it"
            raise ConfigError(f"{where}: {one!r} says nothing", hint=hint)
