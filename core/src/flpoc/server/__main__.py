"""``python -m flpoc.server KIT``: the server of a project."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import time
from pathlib import Path

import grpc

from flpoc.audit.log import AuditLog
from flpoc.ending import end
from flpoc.errors import ServiceError
from flpoc.jobs.ownership import lock_state
from flpoc.plugins import Plugins
from flpoc.provision.kit_settings import LOCAL
from flpoc.provision.kits import load_kit
from flpoc.provision.rights import read_permissions
from flpoc.server.authorization import check_complete
from flpoc.server.peers import Door
from flpoc.server.service import Server
from flpoc.server.site_service import SiteService
from flpoc.server.user_service import UserService
from flpoc.serving import connections_allowed, run
from flpoc.wire.options import SITE_SERVICE, USER_SERVICE, server_options

log = logging.getLogger("flpoc.server")

#: Seconds in which a port that is still taken, by a server that is just ending, must become free.
PORT_WITHIN = 5.0


async def serve(kit_folder: Path, state: Path) -> bool:
    """Serve until SIGTERM or SIGINT, or until an operator orders the end; says whether to begin anew."""
    kit = load_kit(kit_folder, kind="server")
    lock = lock_state(state.absolute(), "a server")
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)  # until there is more to end
    plugins = Plugins.of_kit(kit.settings.plugins)
    for trouble in plugins.troubles:
        log.warning("%s", trouble)
    audit = AuditLog(state.absolute())
    permissions = read_permissions(kit.folder / LOCAL, kit.settings.name)
    server = Server(kit, plugins, state.absolute())
    server.ended = ended.set
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.end, False)  # also when it was just about to begin anew
    door = Door(
        kit.settings.project, audit, permissions, server.revocations,
        met=lambda who: server.later(server.acquaintances.note(who)),
    )  # fmt: skip
    endpoint = await _endpoint(server, door, ended)
    await server.restore()
    await endpoint.start()
    settings = kit.settings
    log.info("project %s: server %s listens on port %s", settings.project, settings.name, settings.server_port)
    await ended.wait()
    log.info("stopping")
    await asyncio.gather(endpoint.stop(0.2), server.stop())
    await asyncio.to_thread(audit.close)
    del lock
    return server.again


async def _endpoint(server: Server, door: Door, ended: asyncio.Event) -> grpc.aio.Server:
    kit, sites, users = server.kit, SiteService(server, door), UserService(server, door)
    check_complete(sites.CALLS, users.calls)
    endpoint = grpc.aio.server(options=server_options(connections_allowed()))
    endpoint.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(SITE_SERVICE, sites.handlers()),
            grpc.method_handlers_generic_handler(USER_SERVICE, users.handlers()),
        )
    )
    credentials = grpc.ssl_server_credentials(
        [(kit.key_pem, kit.certificate_pem)], root_certificates=kit.root_pem, require_client_auth=True
    )
    port = kit.settings.server_port
    until = time.monotonic() + PORT_WITHIN
    while not _bound(endpoint, port, credentials):
        if time.monotonic() > until or ended.is_set():
            hint = f"another program uses it: `ss -ltnp sport = :{port}`"
            raise ServiceError(f"port {port} cannot be bound", hint=hint)
        with contextlib.suppress(TimeoutError):  # nothing announces that a port is free
            await asyncio.wait_for(ended.wait(), 0.25)
    return endpoint


def _bound(endpoint: grpc.aio.Server, port: int, credentials: grpc.ServerCredentials) -> bool:
    for host in ("[::]", "0.0.0.0"):  # noqa: S104 - a server is there to be reached; mTLS decides who gets in
        try:
            if endpoint.add_secure_port(f"{host}:{port}", credentials):
                return True
        except RuntimeError as error:
            log.warning("%s:%s: %s", host, port, error)
    return False


if __name__ == "__main__":
    status = run("flpoc.server", "The server of an flpoc project.", serve)
    end(status)
    sys.exit(status)
