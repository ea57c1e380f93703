"""The studies that a project begins with: read from the project file, and written into the server's kit.

They are where the server's studies begin. From its first start on they are in
its own state, and ``flpoc study`` changes them there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flpoc.errors import ConfigError, KitError, did_you_mean
from flpoc.provision.kit_settings import FORMAT, LOCAL
from flpoc.provision.names import name_problem
from flpoc.provisioning import Project, ProjectStudy

REGISTRY = "study_registry.json"
_KEYS = ("site_orgs", "admins")


def parse_studies(data: Any, where: str = "studies") -> tuple[ProjectStudy, ...]:
    """Turn ``{NAME: {site_orgs: {ORG: [SITE]}, admins: [USER]}}`` into studies.

    Raises:
        ConfigError: It is not of this form; the message has the path of the key.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: wanted are names of studies, each with site_orgs and admins")
    return tuple(_study(str(name), one, f"{where}.{name}") for name, one in data.items())


def _study(name: str, data: Any, where: str) -> ProjectStudy:
    if problem := name_problem("study", name):
        raise ConfigError(f"{where}: {problem}")
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: wanted are site_orgs and admins")
    for key in data:
        if key not in _KEYS:
            raise ConfigError(f"{where}.{key}: no such setting", hint=did_you_mean(str(key), _KEYS))
    orgs = data.get("site_orgs") or {}
    if not isinstance(orgs, Mapping):
        raise ConfigError(f"{where}.site_orgs: wanted are organisations, each with a list of sites")
    sites = {str(org): _names(names, f"{where}.site_orgs.{org}") for org, names in orgs.items()}
    return ProjectStudy(name, sites, _names(data.get("admins") or [], f"{where}.admins"))


def _names(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ConfigError(f"{where}: wanted is a list of names")
    if len(set(value)) != len(value):
        raise ConfigError(f"{where}: a name is there twice")
    return tuple(value)


def check_studies(project: Project) -> None:
    """Check that the sites and users of the studies are those of the project.

    Raises:
        ConfigError: Somebody is not, or a site belongs to another organisation.
    """
    sites = {one.name: one.org for one in project.sites}
    users = {one.name for one in project.users}
    names = [one.name for one in project.studies]
    for study in project.studies:
        where = f"studies.{study.name}"
        if problem := name_problem("study", study.name):
            raise ConfigError(f"{where}: {problem}")
        if names.count(study.name) > 1:
            raise ConfigError(f"{where}: is there twice")
        for org, members in study.site_orgs.items():
            for site in members:
                if site not in sites:
                    hint = did_you_mean(site, sites)
                    raise ConfigError(f"{where}.site_orgs.{org}: {site!r} is no site of the project", hint=hint)
                if sites[site] != org:
                    raise ConfigError(f"{where}.site_orgs.{org}: {site!r} belongs to {sites[site]!r}")
        for user in study.users:
            if user not in users:
                raise ConfigError(f"{where}.admins: {user!r} is no user of the project", hint=did_you_mean(user, users))


def studies_document(studies: tuple[ProjectStudy, ...]) -> dict[str, Any]:
    """Studies as project files have them."""
    return {
        one.name: {
            "site_orgs": {org: list(sites) for org, sites in one.site_orgs.items()},
            "admins": list(one.users),
        }
        for one in studies
    }


def read_studies(kit: Path) -> tuple[ProjectStudy, ...]:
    """The studies that a server begins with, as its kit says; none if it does not say.

    Raises:
        ConfigError: The file is there and cannot be used.
    """
    from flpoc.provision.files import read_guarded
    from flpoc.settings import parse_json

    path = kit / LOCAL / REGISTRY
    if not path.exists() and not path.is_symlink():
        return ()
    try:
        data = parse_json(read_guarded(path), str(path))
    except KitError as error:
        raise ConfigError(error.message, hint=error.hint) from None
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        raise ConfigError(f"{path}: wanted is format {FORMAT}")
    return parse_studies(data.get("studies"), f"{path}: studies")
