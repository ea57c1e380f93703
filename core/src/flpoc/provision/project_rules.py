"""What must be true of a project, and the project that a proof of concept starts with."""

from __future__ import annotations

from collections.abc import Sequence

from flpoc.errors import ConfigError, did_you_mean
from flpoc.provision.names import check_host, check_port, name_problem, split_address
from flpoc.provision.project_studies import check_studies
from flpoc.provisioning import ROLES, Participant, Project

SAMPLE_ORG = "nvidia"


def check_project(project: Project) -> None:
    """Refuse a project that could not be provisioned.

    Raises:
        ConfigError: A name, role, port or address cannot be used, two
            participants share a name, or there is not exactly one server.
    """
    if problem := name_problem("project", project.name):
        raise ConfigError(f"name: {problem}")
    for key, value in (("authority", project.authority), ("launcher", project.launcher)):
        if problem := name_problem("component", value):
            raise ConfigError(f"{key}: {problem}")
    for place, value in enumerate(project.plugins):
        if problem := name_problem("component", value):
            raise ConfigError(f"plugins[{place}]: {problem}")
    servers = [one.name for one in project.participants if one.kind == "server"]
    if len(servers) != 1:
        what = f"there are {len(servers)}: {', '.join(servers)}" if servers else "there is none"
        raise ConfigError(f"participants: one server is wanted, {what}")
    check_port(project.port, "fed_learn_port")
    taken: dict[str, str] = {}
    for place, one in enumerate(project.participants):
        _check_participant(one, project.port, f"participants[{place}]")
        if other := taken.get(one.name.casefold()):
            how = "twice" if other == one.name else f"beside {other!r}: they differ only in case"
            raise ConfigError(f"participants[{place}].name: {one.name!r} is there {how}")
        taken[one.name.casefold()] = one.name
    check_studies(project)


def _check_participant(one: Participant, port: int, where: str) -> None:
    if problem := name_problem(one.kind, one.name):
        raise ConfigError(f"{where}.name: {problem}")
    if problem := name_problem("org", one.org):
        raise ConfigError(f"{where}.org: {problem}")
    if one.kind == "user" and one.role not in ROLES:
        raise ConfigError(f"{where}.role: {one.role!r} is not a role", hint=did_you_mean(one.role, ROLES))
    if one.kind != "user" and one.role:
        raise ConfigError(f"{where}.role: a {one.kind} has no role")
    if one.kind != "server" and one.host_names:
        raise ConfigError(f"{where}.host_names: only the server has host names")
    for host in one.host_names:
        check_host(host, f"{where}.host_names")
    if one.connect_to:
        split_address(one.connect_to, port, f"{where}.connect_to")


def sample_project(
    sites: Sequence[str], *, name: str = "example_project", port: int = 8002, launcher: str = "local"
) -> Project:
    """Give the project of a proof of concept: a server on this host, *sites* and three users.

    Raises:
        ConfigError: A site's name or the port cannot be used.
    """
    project = Project(
        name=name,
        participants=(
            Participant("server", "server", SAMPLE_ORG, host_names=("localhost",), connect_to="localhost"),
            *(Participant(site, "site", SAMPLE_ORG) for site in sites),
            Participant("admin@nvidia.com", "user", SAMPLE_ORG, role="project_admin"),
            Participant("org-admin@nvidia.com", "user", SAMPLE_ORG, role="org_admin"),
            Participant("lead@nvidia.com", "user", SAMPLE_ORG, role="lead"),
        ),
        port=port,
        description="A proof of concept on one machine",
        launcher=launcher,
        plugins=tuple(dict.fromkeys(("local", launcher))),
    )
    check_project(project)
    return project
