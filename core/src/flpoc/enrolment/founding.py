"""The authority of a project whose participants make their own keys."""

from __future__ import annotations

import datetime
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from flpoc.enrolment.documents import FORMAT, as_document, as_fingerprint, is_version, now
from flpoc.errors import FlpocError, IntegrityError, KitError, UsageError
from flpoc.provision.authority import KEY, ROOT, LocalAuthority
from flpoc.provision.building import latest_prod
from flpoc.provision.files import read_guarded, read_secret, remove_tree, write_new
from flpoc.provisioning import CertificateRequest

if TYPE_CHECKING:
    from cryptography import x509

DESCRIPTION = "ca.json"
FIRST_VERSION = "00"


@attrs.frozen
class Ca:
    """An authority in a folder.

    Attributes:
        folder: Where it is.
        project: Whose participants it vouches for.
        version: Kits of its participants belong into ``prod_<version>``.
        root_pem: Its certificate.
    """

    folder: Path
    project: str
    version: str
    root_pem: bytes = attrs.field(repr=False)
    _authority: LocalAuthority = attrs.field(repr=False, factory=LocalAuthority)

    def issue(self, request: CertificateRequest) -> bytes:
        """Issue a certificate; see :meth:`flpoc.provisioning.Authority.issue`."""
        return self._authority.issue(self.folder, request)

    def sign(self, content: bytes) -> bytes:
        """Sign *content*; see :meth:`flpoc.provisioning.Authority.sign`."""
        return self._authority.sign(self.folder, content)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of its certificate, as people compare it."""
        return fingerprint_of(self.root_pem)

    @property
    def key_is_encrypted(self) -> bool:
        """Whether its key needs a passphrase."""
        return b"ENCRYPTED" in read_secret(self.folder / KEY)

    @property
    def not_after(self) -> datetime.datetime:
        return _certificate(self.root_pem).not_valid_after_utc


def make_ca(
    project: str,
    folder: Path,
    *,
    version: str | None = None,
    org: str = "",
    valid_days: int = 3650,
    force: bool = False,
) -> tuple[Ca, Path | None]:
    """Make the authority of *project* in *folder*.

    Args:
        project: The project's name.
        folder: Where to put it; what else is there stays.
        version: Kits belong into ``prod_<version>``; the first that was not used before, if not given.
        org: Its organisation; may be empty.
        valid_days: How long it lasts.
        force: Set an authority that is there aside, and make a new one.

    Returns:
        The authority, and the folder where the former one is now; None if there was none.

    Raises:
        KitError: There is one already (code CA_ALREADY_EXISTS), or it had this
            version (CA_VERSION_ALREADY_EXISTS), or the folder cannot be written to.
    """
    if version is not None and not is_version(version):
        raise UsageError(f"--deploy-version: {version!r} is not two digits", hint="for example 01")
    before = _former(folder, force=force)
    chosen = version or (FIRST_VERSION if before is None else _after(before))
    if chosen == before:
        raise KitError(
            f"the authority in {folder} has version {before} already: kits of both would be mixed in prod_{before}",
            code="CA_VERSION_ALREADY_EXISTS",
            hint=f"give another: --deploy-version {_after(before)}",
        )
    try:
        kept = _build(project, folder, chosen, LocalAuthority(valid_for=datetime.timedelta(valid_days), org=org), org)
    except OSError as error:
        raise KitError(
            f"{error.filename or folder}: {error.strerror or error}",
            code="OUTPUT_DIR_NOT_WRITABLE",
            hint="choose another folder with -o, or change its permissions",
        ) from None
    return open_ca(folder), kept


def open_ca(folder: Path) -> Ca:
    """Read the authority in *folder*, and see that its key is there and fits.

    The authority of a project that was provisioned (``WORKSPACE/PROJECT/ca``) will do.

    Raises:
        KitError: There is none (code CA_NOT_FOUND), or it cannot be used (CA_LOAD_FAILED).
    """
    from flpoc.provision.identity import name_of, read_roots

    if not (folder / ROOT).exists() and not (folder / KEY).exists():
        raise KitError(
            f"{folder}: there is no authority: no {ROOT}, no {KEY}",
            code="CA_NOT_FOUND",
            hint="`flpoc cert init` makes one; `flpoc provision` keeps its own in WORKSPACE/PROJECT/ca",
        )
    try:
        root = read_guarded(folder / ROOT)
        if len(read_roots(root)) != 1:
            raise KitError(f"{folder / ROOT}: wanted is one certificate")
        found = Ca(folder, name_of(_certificate(root).subject), _version_in(folder), root)
        _check_key(found)
        return found
    except FlpocError as error:
        hint = error.hint or "restore the whole folder from a backup"
        raise KitError(f"the authority in {folder}: {error.message}", code="CA_LOAD_FAILED", hint=hint) from None


def _check_key(ca: Ca) -> None:
    from flpoc.provision.identity import verify_signature

    try:
        verify_signature(ca.root_pem, b"", ca.sign(b""))
    except IntegrityError:
        raise KitError(f"{ca.folder / KEY} is not the key of {ROOT}") from None


def fingerprint_of(root: bytes) -> str:
    """The SHA-256 of a certificate, as people compare it."""
    from cryptography.hazmat.primitives import hashes

    return as_fingerprint(_certificate(root).fingerprint(hashes.SHA256()))


def _certificate(pem: bytes) -> x509.Certificate:
    from flpoc.provision.identity import read_certificate

    return read_certificate(pem)


def _version_in(folder: Path) -> str:
    """What ``ca.json`` says; that of the newest kits beside the authority of a provisioned project."""
    from flpoc.settings import parse_json

    path = folder / DESCRIPTION
    if not path.exists():
        newest = latest_prod(folder.resolve().parent)
        return FIRST_VERSION if newest is None else newest.name.rpartition("_")[2]
    data = parse_json(read_guarded(path), str(path))
    version = data.get("version") if isinstance(data, dict) else None
    if not isinstance(version, str) or not is_version(version):
        raise KitError(f"{path}: version: {version!r} is not two digits")
    return version


def _former(folder: Path, *, force: bool) -> str | None:
    """The version of an authority that is to be replaced; None if there is none."""
    there = [name for name in (ROOT, KEY) if (folder / name).exists() or (folder / name).is_symlink()]
    if not there:
        return None
    if not force:
        if there == [ROOT]:
            raise KitError(
                f"{folder / ROOT} exists: the certificate of an authority whose key is somewhere else",
                code="ROOTCA_ALREADY_EXISTS",
                hint="choose another folder with -o",
            )
        raise KitError(
            f"there is an authority in {folder} already",
            code="CA_ALREADY_EXISTS",
            hint="use it; or choose another folder with -o; --force sets it aside: all kits are then to be made anew",
        )
    try:
        return _version_in(folder)
    except FlpocError:
        return FIRST_VERSION


def _after(version: str) -> str:
    return f"{min(int(version) + 1, 99):02d}"


def _build(project: str, folder: Path, version: str, authority: LocalAuthority, org: str) -> Path | None:
    """Make an authority aside, then put it in its place; gives the folder with the former one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name[:100]}.new-", dir=folder.parent))
    try:
        made = new / "ca"
        authority.create(made, project)
        root = authority.root(made)
        about: dict[str, Any] = {
            "format": FORMAT,
            "project": project,
            "version": version,
            "fingerprint": fingerprint_of(root),
            "created": now(),
            **({"org": org} if org else {}),
        }
        write_new(made / DESCRIPTION, as_document(about), durable=True)
        if not folder.exists():
            made.rename(folder)
            return None
        kept = _set_aside(folder)
        for name in (ROOT, DESCRIPTION, KEY):
            os.replace(made / name, folder / name)  # noqa: PTH105 - both are on one file system
        return kept
    finally:
        remove_tree(new)


def _set_aside(folder: Path) -> Path | None:
    """Move a former authority into a folder of its own: nothing that it has signed can be made again."""
    there = [folder / name for name in (KEY, ROOT, DESCRIPTION) if (folder / name).exists()]
    if not there:
        return None
    kept = Path(tempfile.mkdtemp(prefix=f"former-{now().replace(':', '')}-", dir=folder))
    for path in there:
        path.rename(kept / path.name)
    return kept
