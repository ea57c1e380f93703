"""The channel of a session, and why there is none: said once, in plain words."""

from __future__ import annotations

from typing import Any

from flpoc.errors import AuthError, ConnectionFailed, DeadlineError, FlpocError, KitError
from flpoc.provision.kits import Kit, check_pair
from flpoc.wire.reaching import diagnose, no_flpoc


def open_channel(kit: Kit, timeout: float) -> Any:
    """Open a channel to the kit's server; connects when first used, within *timeout* seconds."""
    import grpc

    from flpoc.wire.options import channel_options

    credentials = grpc.ssl_channel_credentials(kit.root_pem, kit.key_pem, kit.certificate_pem)
    # the least back-off is also how long one attempt may take: over a slow line a handshake needs its time
    attempt = ("grpc.min_reconnect_backoff_ms", max(1, round(timeout * 1000)))
    options = [one for one in channel_options(kit.certificate_name) if one[0] != attempt[0]]
    return grpc.secure_channel(kit.server_address, credentials, [*options, attempt])


def lost(kit: Kit, error: Any) -> FlpocError:
    """The error for a call that broke off on a connection that had worked."""
    import grpc

    code, details = error.code(), _short(error)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineError(f"the server at {kit.server_address} does not answer", hint="see the log of the server")
    if code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED):
        return AuthError(details or "the server does not allow it")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return no_flpoc(kit)
    return ConnectionFailed(
        f"the connection to the server at {kit.server_address} broke off: {details or code.name}",
        hint="try again; if it stays so, see the log of the server",
    )


def why_unreachable(kit: Kit, error: Any, timeout: float) -> FlpocError:
    """The error for a server that could not be reached at all, after *error* of gRPC."""
    import grpc

    if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return lost(kit, error)
    try:
        check_pair(kit)
    except KitError as broken:
        return broken
    found = diagnose(kit, timeout=timeout)
    if found is not None:
        return found
    return ConnectionFailed(
        f"the server at {kit.server_address} cannot be reached: {_short(error) or error.code().name}",
        hint="try again; if it stays so, see the log of the server",
    )


def _short(error: Any) -> str:
    return " ".join(str(error.details() or "").split())[:300]
