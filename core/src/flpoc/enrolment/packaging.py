"""Making a kit of an approved request and of the key that never left this machine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import attrs

from flpoc.enrolment.answers import Answer, read_answer
from flpoc.enrolment.definitions import Profile, as_project
from flpoc.enrolment.documents import (
    REQUEST,
    SITE,
    Request,
    csr_name,
    key_name,
    parse_fingerprint,
    parse_request,
    sha256,
)
from flpoc.enrolment.incoming import read_site
from flpoc.errors import ConfigError, FlpocError, KitError
from flpoc.provision.building import put_in, staging_in
from flpoc.provision.files import make_folder, read_guarded, read_secret, write_new
from flpoc.provision.identity import p256_key, read_certificate, read_private_key
from flpoc.provision.kit_files import as_json, local_files, seal, startup_files, write_files, write_key
from flpoc.provision.kit_settings import CONNECT, LOCAL, ROOT, STARTUP
from flpoc.provision.kits import Kit, find_kit, load_kit
from flpoc.provision.names import split_address

_ASK_AGAIN = "use the folder that `flpoc cert request` has made for this request, on this machine"


@attrs.frozen
class Packaged:
    """What was made.

    Attributes:
        kit: The kit.
        answer: What it was made of.
        request: What was asked for.
        request_folder: Where the key was found; it still is there.
        fingerprint_checked: Whether somebody has said which authority it must be.
        replaced: Whether a kit of this name gave way.
    """

    kit: Kit
    answer: Answer
    request: Request
    request_folder: Path
    fingerprint_checked: bool
    replaced: bool


def package(
    archive: Path, workspace: Path, *, request_folder: Path | None = None, fingerprint: str = "", force: bool = False
) -> Packaged:
    """Make a kit of what was approved, after checking that it is what was asked for and signed by the authority.

    Args:
        archive: The answer to a request.
        workspace: The kit is made in ``<workspace>/<project>/prod_NN/<name>``.
        request_folder: Where key and request are; looked for around the answer and here, if not given.
        fingerprint: The SHA-256 that the authority's certificate must have; whoever approved says it on another way.
        force: Replace a kit that is there; what its owner has put into it stays.

    Raises:
        KitError: Something is wrong; the code says what. Nothing was made.
    """
    wanted = parse_fingerprint(fingerprint) if fingerprint else ""
    if wanted is None:
        raise KitError(
            f"--fingerprint: {fingerprint[:100]!r} is no SHA-256",
            code="INVALID_ROOTCA_FINGERPRINT",
            hint="it has 64 hex digits; `flpoc cert approve` and `flpoc cert init` print it",
        )
    answer = read_answer(archive, wanted)
    folder = request_folder or _find_folder(archive, answer)
    request, address = _check_folder(folder, answer)
    key = _find_key(folder, answer)
    kit, replaced = _build(answer, address, key, workspace, force=force)
    return Packaged(kit, answer, request, folder, bool(wanted), replaced)


# -- the folder of the request


def _find_folder(archive: Path, answer: Answer) -> Path:
    """The folder with the request that was answered, around the answer or where the command runs."""
    name, beside = answer.signed.participant.name, archive.absolute().parent
    tried = list(dict.fromkeys([beside / name, beside, Path.cwd() / name, Path.cwd()]))
    for folder in tried:
        try:
            if parse_request(read_guarded(folder / REQUEST)).request_id == answer.signed.request_id:
                return folder
        except FlpocError:  # another folder may be the one
            continue
    raise KitError(
        f"the request that {archive.name} answers is not here: looked for in {', '.join(map(str, tried))}",
        code="REQUEST_DIR_NOT_FOUND",
        hint="give the folder that `flpoc cert request` has made: --request-dir DIR",
    )


def _check_folder(folder: Path, answer: Answer) -> tuple[Request, str]:
    """Check that it is the folder of the request that was answered; gives it, and the address that it wants to dial."""
    signed, name = answer.signed, answer.signed.participant.name
    if not folder.is_dir():
        raise KitError(f"{folder}: no such folder", code="REQUEST_DIR_NOT_FOUND", hint=_ASK_AGAIN)
    if not (folder / REQUEST).exists():
        raise KitError(f"{folder / REQUEST} is missing", code="REQUEST_METADATA_NOT_FOUND", hint=_ASK_AGAIN)
    try:
        request = parse_request(read_guarded(folder / REQUEST))
    except (ConfigError, KitError) as error:
        text = f"{folder / REQUEST} cannot be used: {error.message}"
        raise KitError(text, code="REQUEST_METADATA_INVALID", hint=_ASK_AGAIN) from None
    if request.request_id != signed.request_id:
        text = f"{folder} is the folder of another request than the one that was answered"
        raise KitError(text, code="REQUEST_DIR_MISMATCH", hint=_ASK_AGAIN)
    if missing := [one for one in (csr_name(name), SITE) if not (folder / one).exists()]:
        raise KitError(f"{folder / missing[0]} is missing", code="REQUEST_DIR_INCOMPLETE", hint=_ASK_AGAIN)
    one = signed.participant
    asked = (request.project, request.participant.name, request.participant.kind, request.csr_sha256)
    if asked != (signed.project, one.name, one.kind, sha256(read_guarded(folder / csr_name(name)))):
        text = f"{folder / REQUEST} asks for something else than was answered"
        raise KitError(text, code="REQUEST_METADATA_MISMATCH", hint=_ASK_AGAIN)
    site = read_guarded(folder / SITE)
    if sha256(site) != signed.site_sha256:
        read_site(site, str(folder / SITE))
        text = f"{folder / SITE} was changed after it was sent"
        raise KitError(text, code="LOCAL_SITE_MISMATCH", hint="ask again with `flpoc cert request --force`")
    # as it was approved; what of it is still needed is rarely there, and reading YAML takes its time
    return request, read_site(site, str(folder / SITE)).participant.connect_to if b"connect_to" in site else ""


def _find_key(folder: Path, answer: Answer) -> bytes:
    """The private key of the request, if it is that of the certificate."""
    path = folder / key_name(answer.signed.participant.name)
    if not path.exists() and not path.is_symlink():
        others = sorted(one.name for one in folder.glob("*.key"))
        code = "AMBIGUOUS_KEY" if len(others) > 1 else "KEY_NOT_FOUND"
        there = f"; there are {', '.join(others)}" if others else ""
        raise KitError(f"{path} is missing{there}", code=code, hint=f"{_ASK_AGAIN}; without its key, ask again")
    try:
        pem = read_secret(path)
        key = read_private_key(pem)
    except KitError as error:
        text = error.message if str(path) in error.message else f"{path}: {error.message}"
        raise KitError(text, code="KEY_INVALID", hint=error.hint or _ASK_AGAIN) from None
    if key.public_key() != p256_key(read_certificate(answer.certificate)):
        text = f"{path} does not belong to the certificate that was issued"
        raise KitError(text, code="KEY_CERT_MISMATCH", hint=_ASK_AGAIN)
    return pem


# -- the kit


def _build(answer: Answer, address: str, key: bytes, workspace: Path, *, force: bool) -> tuple[Kit, bool]:
    signed = answer.signed
    name = signed.participant.name
    try:
        with staging_in(workspace, signed.project) as (home, staging):
            prod = home / f"prod_{signed.deploy_version}"
            replaced = (prod / name).exists()
            if replaced:
                _may_replace(prod / name, force=force)
            _refuse_other_authority(prod, answer)
            made = staging / name
            _write(made, answer, address, key)
            home.mkdir(mode=0o700, exist_ok=True)
            if not prod.exists():
                make_folder(prod)
            return load_kit(put_in(made, prod / name, staging)), replaced
    except ConfigError as error:  # what cannot be written
        hint = "choose another folder with -w, or change its permissions"
        raise KitError(error.message, code="OUTPUT_DIR_NOT_WRITABLE", hint=hint) from None


def _may_replace(target: Path, *, force: bool) -> None:
    if not force:
        raise KitError(f"{target} exists", code="OUTPUT_DIR_EXISTS", hint="--force replaces it")
    try:
        find_kit(target)
    except KitError as error:
        hint = "move it away, or choose another folder with -w"
        raise KitError(f"{target} is in the way: {error.message}", code="OUTPUT_DIR_EXISTS", hint=hint) from None


def _refuse_other_authority(prod: Path, answer: Answer) -> None:
    """Kits of two authorities in one folder would not know each other."""
    for path in _roots_in(prod):
        if path.read_bytes() != answer.root:
            raise KitError(
                f"{path.parents[1]} is a kit of another authority of project {answer.signed.project!r}",
                code="PROJECT_CA_MISMATCH",
                hint="choose another folder with -w; a new authority should have another --deploy-version",
            )


def _roots_in(prod: Path) -> Iterable[Path]:
    return sorted(prod.glob(f"*/{STARTUP}/{ROOT}")) if prod.is_dir() else ()


def _write(kit: Path, answer: Answer, address: str, key: bytes) -> None:
    """Write the kit, and see that it is exactly the one that was approved."""
    signed = answer.signed
    one = signed.participant
    profile = Profile(signed.project, signed.server, (), signed.launcher, signed.plugins)
    project = as_project(profile, one.participant())
    participant = next(each for each in project.participants if each.name == one.name)
    try:
        write_files(
            kit, startup_files(project, participant, answer.root, answer.certificate), local_files(project, participant)
        )
        write_key(kit, one.kind, key)
        seal(kit, *signed.seal)
        _write_address(kit, address if one.kind != "server" else "", signed.server.port)
        load_kit(kit, kind=one.kind)
    except FlpocError as error:
        raise KitError(
            f"the kit that was approved cannot be made: {error.message.replace(f'{kit}/', '')}",
            code="BUILD_FAILED",
            hint=f"it was approved with flpoc {signed.flpoc}: use that version here, too, or have it approved again",
        ) from None


def _write_address(kit: Path, address: str, port: int) -> None:
    """Where this participant dials the server, if it has said so itself."""
    if address:
        host, dialled = split_address(address, port, "connect_to")
        write_new(kit / LOCAL / CONNECT, as_json({"host": host, "port": dialled}))
