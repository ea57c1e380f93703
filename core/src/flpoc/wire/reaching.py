"""Why a server cannot be reached, in plain words.

gRPC hides why a handshake failed. When it did, the same handshake is done
again with the standard library, which tells.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import attrs

from flpoc.errors import AuthError, ConnectionFailed, FlpocError, KitError
from flpoc.provision.kits import Kit

if TYPE_CHECKING:
    from cryptography import x509

_SAME_PROJECT = "is the kit of the same project as the server? `flpoc config inspect` shows whose kit is used"
_OTHER_POC = (
    "does your own POC run (`flpoc poc start`)? While it is stopped another one may have its port; "
    "or it was made anew since this kit was"
)
_WHO_LISTENS = "check that the server runs (`flpoc poc start` for a proof of concept), and the address in the kit"
_MISMATCH = 62
_EXPIRED = 10
_TOO_EARLY = 9


class UntrustedError(ConnectionFailed):
    """What listens there shows a certificate that is not to be trusted."""


@attrs.frozen
class Step:
    """One step on the way to the server: how it ended.

    Attributes:
        name: ``host``: its name is known; ``connection``: something listens there; ``server``: it has the
            certificate of our server; ``access``: it accepts ours.
        said: What was found.
        error: Why it failed; None if it did not.
    """

    name: Literal["host", "connection", "server", "access"]
    said: str = ""
    error: FlpocError | None = None


def diagnose(kit: Kit, *, timeout: float) -> FlpocError | None:
    """Connect to the kit's server step by step, and tell which step fails; None if none does (blocking).

    *timeout* is how long the caller has waited already; this takes a quarter of it, a second at most.
    """
    return next((one.error for one in steps(kit, max(0.2, min(1.0, timeout / 4)), timeout) if one.error), None)


def steps(kit: Kit, within: float, waited: float) -> Iterator[Step]:
    """Connect to the kit's server step by step, until one fails (blocking).

    Args:
        kit: Whose.
        within: Seconds that all of it may take.
        waited: Seconds that nobody has answered, for the message.
    """
    until = time.monotonic() + within
    place = kit.server_address
    host, port = kit.settings.server_host, kit.settings.server_port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        yield Step("host", ", ".join(dict.fromkeys(str(one[4][0]) for one in found)))
        plain = socket.create_connection((host, port), _left(until))
    except socket.gaierror as error:
        hint = "check the address in the kit, or write another into its local/connect.json"
        why = f"the server's host {host!r} cannot be found: {error.strerror}"
        yield Step("host", error=ConnectionFailed(why, hint=hint))
        return
    except OSError as error:
        yield Step("connection", error=_not_there(place, error, waited))
        return
    yield Step("connection", place)
    with plain:
        yield from _shake_hands(kit, plain, until)


def _not_there(place: str, error: OSError, waited: float) -> ConnectionFailed:
    if isinstance(error, ConnectionRefusedError):
        return ConnectionFailed(f"nothing listens at {place}", hint=_WHO_LISTENS)
    if isinstance(error, TimeoutError):
        return ConnectionFailed(
            f"{place} does not answer within {waited:g} s",
            hint="check the address, and firewalls between here and there; --connect-timeout waits longer",
        )
    return ConnectionFailed(f"{place} cannot be reached: {error.strerror or error}", hint=_WHO_LISTENS)


def _shake_hands(kit: Kit, plain: socket.socket, until: float) -> Iterator[Step]:
    place = kit.server_address
    plain.settimeout(_left(until))
    try:
        with _tls(kit).wrap_socket(plain, server_hostname=kit.certificate_name) as secure:
            yield Step("server", kit.certificate_name)
            yield Step("access", kit.settings.name, _listen(kit, secure))
    except ssl.SSLCertVerificationError as error:
        yield Step("server", error=_not_trusted(kit, error, until))
    except TimeoutError:
        why = f"{place} takes connections, but says nothing: a server that hangs, or no flpoc server"
        silent = ConnectionFailed(why, hint=_WHO_LISTENS)
        yield Step("server", error=silent)
    except OSError as error:
        if isinstance(error, ssl.SSLError) and "ALERT" in str(error.reason):
            yield Step("access", error=_refused(kit, error))
            return
        why = getattr(error, "reason", "") or error.strerror or type(error).__name__
        text = f"what listens at {place} is no flpoc server: {_words(why)}"
        yield Step("server", error=ConnectionFailed(text, hint=_WHO_LISTENS))


def _tls(kit: Kit, *, trusting: bool = False) -> ssl.SSLContext:
    from flpoc.provision.kit_settings import STARTUP, STEM

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.set_alpn_protocols(["h2"])
    if trusting:
        # only to read the certificate of who is not trusted; nothing is sent
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    else:
        tls.load_verify_locations(cadata=kit.root_pem.decode())
        own = kit.folder / STARTUP / STEM[kit.kind]
        tls.load_cert_chain(own.with_name(own.name + ".crt"), own.with_name(own.name + ".key"))
    return tls


def _listen(kit: Kit, secure: ssl.SSLSocket) -> FlpocError | None:
    """In TLS 1.3 a server refuses our certificate only after the handshake."""
    if secure.selected_alpn_protocol() != "h2":
        return no_flpoc(kit)
    try:
        if not secure.recv(1):
            return _refused(kit, None)
    except TimeoutError:
        return None
    except OSError as error:
        return _refused(kit, error)
    return None


def _refused(kit: Kit, error: OSError | None) -> FlpocError:
    from flpoc.provision.identity import verify_certificate

    why = _words(getattr(error, "reason", None) or "it closes the connection")
    try:
        verify_certificate(kit.certificate_pem, kit.root_pem)
    except KitError as found:
        why = found.message
    return AuthError(
        f"the server at {kit.server_address} refuses the certificate of {kit.settings.name!r}: {why}",
        hint=f"it may have expired or be of another project; {_SAME_PROJECT}",
    )


def _not_trusted(kit: Kit, error: ssl.SSLCertVerificationError, until: float) -> FlpocError:
    place, wanted = kit.server_address, kit.certificate_name
    shown = _shown(kit, until)
    if error.verify_code == _MISMATCH:
        has = f", but for {', '.join(names)}" if (names := _host_names(shown)) else ""
        return UntrustedError(
            f"the certificate of the server at {place} is not for {wanted!r}, which the kit expects{has}",
            hint=_SAME_PROJECT,
        )
    if error.verify_code in (_EXPIRED, _TOO_EARLY):
        return UntrustedError(
            f"the certificate of the server at {place} is not valid now: {_since_when(shown, kit, error)}",
            hint="set the clocks right, or provision the server anew",
        )
    if _is_ours(shown, kit):
        return UntrustedError(
            f"what listens at {place} has a certificate of this project, but not a server's: {error.verify_message}",
            hint="a site or user of the project uses its own kit there: tell whoever runs the server",
        )
    from flpoc.provision.identity import name_of

    issuer = shown.issuer.rfc4514_string() if shown is not None else ""
    if shown is not None and name_of(shown.issuer) == kit.settings.project:
        return UntrustedError(
            f"the server at {place} is of another project that is also called {kit.settings.project!r}",
            hint=_OTHER_POC,
        )
    return UntrustedError(
        f"the certificate of the server at {place} is not of project {kit.settings.project!r}"
        + (f": it was issued by {issuer!r}" if issuer else "")
        + f" (expected was a certificate for {wanted!r})",
        hint=f"a proxy or service mesh may intercept the connection: let this port pass; or: {_SAME_PROJECT}",
    )


def _since_when(shown: x509.Certificate | None, kit: Kit, error: ssl.SSLCertVerificationError) -> str:
    """How long ago a certificate, or its CA's, has expired, or how long it is until it begins."""
    from cryptography.hazmat.primitives.serialization import Encoding

    from flpoc.provision.identity import verify_certificate

    if shown is not None:
        try:
            verify_certificate(shown.public_bytes(Encoding.PEM), kit.root_pem)
        except KitError as found:
            return found.message
    return error.verify_message


def _shown(kit: Kit, until: float) -> x509.Certificate | None:
    """The certificate that is shown there, whoever issued it; None when it cannot be found out."""
    from cryptography import x509

    with contextlib.suppress(OSError, ValueError):
        place = (kit.settings.server_host, kit.settings.server_port)
        with socket.create_connection(place, _left(until)) as plain, _tls(kit, trusting=True).wrap_socket(plain) as tls:
            shown = tls.getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(shown) if shown else None
    return None


def _is_ours(shown: x509.Certificate | None, kit: Kit) -> bool:
    """Whether the project's own authority has issued a certificate."""
    from cryptography.exceptions import InvalidSignature

    from flpoc.provision.identity import read_roots

    if shown is None:
        return False
    for root in read_roots(kit.root_pem):
        with contextlib.suppress(ValueError, TypeError, InvalidSignature):
            shown.verify_directly_issued_by(root)
            return True
    return False


def _host_names(shown: x509.Certificate | None) -> list[str]:
    """For which hosts a certificate is, at most eight."""
    from cryptography import x509

    if shown is None:
        return []
    with contextlib.suppress(x509.ExtensionNotFound, ValueError):
        found = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        addresses = map(str, found.get_values_for_type(x509.IPAddress))
        return [repr(name[:100]) for name in (*found.get_values_for_type(x509.DNSName), *addresses)][:8]
    return []


def no_flpoc(kit: Kit) -> ConnectionFailed:
    return ConnectionFailed(f"what listens at {kit.server_address} is no flpoc server", hint=_WHO_LISTENS)


def _left(until: float) -> float:
    return max(0.1, until - time.monotonic())


def _words(reason: str) -> str:
    """``TLSV1_ALERT_UNKNOWN_CA`` in words."""
    return reason.replace("_", " ").lower()
