"""From a project to the startup kits of its participants."""

from __future__ import annotations

import datetime
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import attrs

Kind = Literal["server", "site", "user"]
Role = Literal["project_admin", "org_admin", "lead", "member"]

ROLES: tuple[str, ...] = ("project_admin", "org_admin", "lead", "member")


@attrs.frozen
class Participant:
    """Somebody who gets a startup kit.

    Attributes:
        name: Unique in the project, also without regard to case; for users their e-mail address.
        kind: ``server``, ``site`` or ``user``.
        org: The organisation it belongs to.
        role: For users: project_admin, org_admin, lead or member; empty otherwise.
        host_names: For servers: names and addresses that its certificate is valid for.
        connect_to: For servers: the address that the others dial; for sites and users: their own, if it differs.
    """

    name: str
    kind: Kind
    org: str
    role: str = ""
    host_names: tuple[str, ...] = ()
    connect_to: str = ""


@attrs.frozen
class ProjectStudy:
    """A study that a project begins with.

    Attributes:
        name: Its name.
        site_orgs: Organisation to the names of its sites.
        users: Names of the users who may work in it.
    """

    name: str
    site_orgs: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    users: tuple[str, ...] = ()


@attrs.frozen
class Project:
    """A federation: one server, sites, users.

    Attributes:
        name: Its name, also that of its certificate authority.
        participants: One server, any number of sites and users.
        port: The server's port for sites and users alike.
        description: One line.
        authority: Which authority issues its certificates.
        launcher: Which launcher starts its services in a proof of concept, and its jobs.
        plugins: Names of the plugins that servers and sites may load.
        studies: The studies that it begins with, besides ``default``.
    """

    name: str
    participants: tuple[Participant, ...]
    port: int = 8002
    description: str = ""
    authority: str = "local-ca"
    launcher: str = "local"
    plugins: tuple[str, ...] = ("local",)
    studies: tuple[ProjectStudy, ...] = ()

    @property
    def server(self) -> Participant:
        return next(one for one in self.participants if one.kind == "server")

    @property
    def sites(self) -> tuple[Participant, ...]:
        return tuple(one for one in self.participants if one.kind == "site")

    @property
    def users(self) -> tuple[Participant, ...]:
        return tuple(one for one in self.participants if one.kind == "user")


@attrs.frozen
class KitFile:
    """A file that a plugin adds to a participant's kit.

    Attributes:
        participant: Whose kit.
        path: Relative to the kit, below ``startup/`` or ``local/``.
        content: The bytes.
        secret: Written with mode 0600 if true.
    """

    participant: str
    path: str
    content: bytes
    secret: bool = False


@attrs.frozen
class Check:
    """One finding about a project: ``ok``, ``warning`` or ``error``."""

    component: str
    status: Literal["ok", "warning", "error"]
    details: str = ""


@attrs.frozen
class CertificateRequest:
    """What a certificate is to say. It is never taken from a certificate signing request.

    Attributes:
        project: The project's name.
        participant: Who it is for.
        public_key: PEM of an EC P-256 public key.
        valid_for: How long, cut at the end of the authority's own certificate.
    """

    project: str
    participant: Participant
    public_key: bytes
    valid_for: datetime.timedelta = datetime.timedelta(days=360)


class Authority(ABC):
    """Issues the certificates of a project.

    The authority's own key never leaves *folder* (or wherever an
    implementation keeps it) and is in nobody's kit.
    """

    @abstractmethod
    def create(self, folder: Path, project: str) -> None:
        """Make the authority of a project; one that exists is left as it is."""

    @abstractmethod
    def root(self, folder: Path) -> bytes:
        """Give the authority's own certificate, as PEM."""

    @abstractmethod
    def issue(self, folder: Path, request: CertificateRequest) -> bytes:
        """Issue a certificate: one, in PEM, for the key of the request.

        It says who the participant is as ``flpoc.provision.identity`` reads it, ends no later than the
        authority's own, and is valid since a few minutes ago, because clocks of sites may lag.

        Raises:
            KitError: The key is not EC P-256, or this is the authority of another project.
            ConfigError: The participant's name, role or organisation cannot be used.
        """

    @abstractmethod
    def sign(self, folder: Path, content: bytes) -> bytes:
        """Sign *content*: ECDSA P-256 with SHA-256, DER."""
