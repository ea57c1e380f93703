"""Approving a request: what is certified is what whoever approves says, for the key of the request."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from flpoc import __version__
from flpoc.enrolment.archives import write_archive
from flpoc.enrolment.definitions import Profile, as_project, read_profile
from flpoc.enrolment.documents import (
    FORMAT,
    SIGNATURE_SUFFIX,
    SIGNED,
    SITE,
    Endpoint,
    Person,
    Request,
    Signed,
    answer_archive,
    as_document,
    as_fingerprint,
    certificate_name,
    now,
    sha256,
)
from flpoc.enrolment.founding import Ca, open_ca
from flpoc.enrolment.incoming import Incoming, read_incoming
from flpoc.errors import FlpocError, KitError
from flpoc.provision.identity import Identity, identity_of
from flpoc.provision.kit_files import manifest_of, startup_files
from flpoc.provision.kit_settings import ROOT, settings_of
from flpoc.provision.names import name_problem
from flpoc.provision.project_file import TYPES, check_project
from flpoc.provisioning import CertificateRequest, Participant, Project

if TYPE_CHECKING:
    from flpoc.plugins import Plugins

#: Whoever has this role gets it by the words of whoever approves, never because of a request alone.
_ALL_RIGHTS = "project_admin"


@attrs.frozen
class Words:
    """What whoever approves says about the participant, besides the project's profile.

    Attributes:
        role: The role of a user; that of the request, if empty. Only by this can somebody become project_admin.
        org: The organisation; that of the request, if empty.
        valid_days: How long the certificate lasts, cut at the end of the authority's own.
    """

    role: str = ""
    org: str = ""
    valid_days: int = 1095


@attrs.frozen
class Approved:
    """What was made.

    Attributes:
        archive: What is to be sent back.
        signed: What it says.
        identity: Who was certified.
        request: What was asked for.
        fingerprint: Of the authority's certificate: to be told to the other side on another way.
        warnings: What of the request has no effect.
    """

    archive: Path
    signed: Signed
    identity: Identity
    request: Request
    fingerprint: str
    warnings: tuple[str, ...]

    @property
    def key_fingerprint(self) -> str:
        return as_fingerprint(self.request.key_sha256)


def approve(
    archive: Path,
    ca_folder: Path,
    profile: Path,
    words: Words,
    *,
    out: Path | None = None,
    force: bool = False,
    plugins: Callable[[], Plugins] | None = None,
) -> Approved:
    """Certify the key of a request, and say what kit is to be made with it.

    Of the certificate signing request only the public key is used: names and
    extensions in it have no effect. The participant is the one that the
    request names, in the project and with the server of the profile, as what
    *words* say.

    Args:
        archive: The request, as it was sent.
        ca_folder: Where the authority is.
        profile: The project's profile.
        words: What whoever approves decides.
        out: Where to write the answer; beside the request, if not given.
        force: Replace an answer that is there.
        plugins: Gives the installed plugins; those of the profile may have files for kits, which this one cannot have.

    Raises:
        KitError: Something is wrong; the code says what.
    """
    incoming = read_incoming(archive)
    said = read_profile(profile)
    ca = open_ca(ca_folder)
    person = _decide(incoming, said, ca, words)
    target = out or archive.parent / answer_archive(person.name)
    if (target.exists() or target.is_symlink()) and not force:
        hint = "choose another with --out; --force replaces it"
        raise KitError(f"{target} exists", code="CERT_ALREADY_EXISTS", hint=hint)
    project = as_project(said, person.participant())
    certificate = _certify(ca, project, person, incoming, words)
    signed = _answer(ca, project, person, incoming.request, certificate)
    document = as_document(signed)
    files = {
        SIGNED: document,
        SIGNED + SIGNATURE_SUFFIX: ca.sign(document),
        SITE: incoming.site,
        certificate_name(person.name): certificate,
        ROOT: ca.root_pem,
    }
    _write(target, files)
    warnings = (*incoming.dropped, *_not_carried(project, person.name, plugins))
    return Approved(target, signed, identity_of(certificate), incoming.request, ca.fingerprint, warnings)


def _decide(incoming: Incoming, said: Profile, ca: Ca, words: Words) -> Person:
    """Who is certified as what: the project's profile and *words* decide, the request only asks."""
    one = incoming.request.participant
    if said.project != ca.project:
        raise KitError(
            f"the profile is that of project {said.project!r}, the authority in {ca.folder} that of {ca.project!r}",
            code="PROJECT_CA_MISMATCH",
            hint="give the folder of the project's own authority with -c",
        )
    if incoming.request.project != said.project:
        raise KitError(
            f"{one.name} asks to take part in project {incoming.request.project!r}, this is {said.project!r}",
            code="PROJECT_PROFILE_MISMATCH",
            hint="have the definition corrected and a new request made",
        )
    if one.kind == "server":
        _check_server(one, incoming.said.port, said)
    elif one.name.casefold() == said.server.name.casefold():
        raise KitError(f"{one.name!r} is the name of the server", code="INVALID_NAME", hint="ask with another name")
    org = words.org or one.org
    if problem := name_problem("org", org):
        raise KitError(f"--org: {problem}", code="INVALID_NAME", hint="give the organisation's name in this form")
    if words.role and one.kind != "user":
        raise KitError(f"{one.name} is a {one.kind} and has no role", code="INVALID_CERT_TYPE", hint="leave out --role")
    if one.role == _ALL_RIGHTS and not words.role:
        raise KitError(
            f"{one.name} asks for the role {_ALL_RIGHTS}, which may do everything",
            code="INVALID_CERT_TYPE",
            hint=f"if that is meant, say so: --role {_ALL_RIGHTS}; else give another role",
        )
    return attrs.evolve(one, type=TYPES[one.kind], org=org, role=words.role or one.role)


def _check_server(one: Person, port: int, said: Profile) -> None:
    if one.name != said.server.name:
        raise KitError(
            f"the server of the profile is {said.server.name!r}, the request is for a server {one.name!r}",
            code="SERVER_NAME_HOST_MISMATCH",
            hint="the server's name is what sites dial; where it differs, write server.name into the profile",
        )
    if port != said.server.port:
        raise KitError(
            f"the profile says port {said.server.port}, the server asks for {port}",
            code="INVALID_ENDPOINT",
            hint="write the same fed_learn_port into both",
        )


def _certify(ca: Ca, project: Project, person: Person, incoming: Incoming, words: Words) -> bytes:
    try:
        check_project(project)
        one = _participant(project, person)
        lasting = datetime.timedelta(words.valid_days)
        return ca.issue(CertificateRequest(ca.project, one, incoming.public_key, lasting))
    except FlpocError as error:
        message = f"{person.name} cannot be certified: {error.message}"
        raise KitError(message, code="CERT_SIGNING_FAILED", hint=error.hint) from None


def _participant(project: Project, person: Person) -> Participant:
    return next(one for one in project.participants if one.name == person.name)


def _answer(ca: Ca, project: Project, person: Person, request: Request, certificate: bytes) -> Signed:
    """What was approved, with the manifest of a kit that whoever has the key can make."""
    settings = settings_of(project, _participant(project, person))
    files = startup_files(project, _participant(project, person), ca.root_pem, certificate)
    manifest = manifest_of(ca.project, person.name, files)
    return Signed(
        format=FORMAT,
        flpoc=__version__,
        request_id=request.request_id,
        project=ca.project,
        deploy_version=ca.version,
        participant=person,
        server=Endpoint(settings.server_name, settings.server_host, settings.server_port),
        launcher=settings.launcher,
        plugins=settings.plugins,
        certificate_sha256=sha256(certificate),
        rootca_fingerprint_sha256=ca.fingerprint,
        site_sha256=request.site_sha256,
        approved=now(),
        manifest=manifest.decode(),
        manifest_signature=base64.b64encode(ca.sign(manifest)).decode(),
    )


def _not_carried(project: Project, name: str, plugins: Callable[[], Plugins] | None) -> list[str]:
    """Name the plugins whose files a kit of a request does not have: an answer travels, and they may be secret."""
    if plugins is None or set(project.plugins) <= set(Project(project.name, ()).plugins):
        return []
    answers = plugins().contributions("kit_files", project=project)
    adding = {
        one.name for one, file in answers if one.name in project.plugins and getattr(file, "participant", "") == name
    }
    return [
        f"Plugin {one} adds files to kits of `flpoc provision`; this kit will not have them." for one in sorted(adding)
    ]


def _write(target: Path, files: Mapping[str, bytes]) -> None:
    try:
        write_archive(target, files)
    except (OSError, FlpocError) as error:
        why = error.message if isinstance(error, FlpocError) else error.strerror or str(error)
        raise KitError(
            f"{target} cannot be written: {why}",
            code="CERT_OUTPUT_WRITE_FAILED",
            hint="choose another place with --out, or change its permissions",
        ) from None
