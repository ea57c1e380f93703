"""``python -m flpoc.server KIT``: the server of a project."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path

import grpc

from flpoc.errors import ServiceError
from flpoc.jobs.ownership import lock_state
from flpoc.plugins import Plugins
from flpoc.provision.kits import Kit, load_kit
from flpoc.server.authorization import check_complete
from flpoc.server.service import Server
from flpoc.server.site_service import SiteService
from flpoc.server.user_service import UserService
from flpoc.serving import run
from flpoc.wire.options import SERVER_OPTIONS, SITE_SERVICE, USER_SERVICE

log = logging.getLogger("flpoc.server")


async def serve(kit_folder: Path, state: Path) -> None:
    """Serve until SIGTERM or SIGINT."""
    kit = load_kit(kit_folder, kind="server")
    lock = lock_state(state.absolute(), "a server")
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    plugins = Plugins.of_kit(kit.settings.plugins)
    server = Server(kit, plugins, state.absolute())
    endpoint = _endpoint(server, kit)
    await server.restore()
    await endpoint.start()
    settings = kit.settings
    log.info("project %s: server %s listens on port %s", settings.project, settings.name, settings.server_port)
    await ended.wait()
    log.info("stopping")
    await asyncio.gather(endpoint.stop(0.2), server.stop())
    del lock


def _endpoint(server: Server, kit: Kit) -> grpc.aio.Server:
    sites, users = SiteService(server), UserService(server)
    check_complete(sites.CALLS, users.calls)
    endpoint = grpc.aio.server(options=SERVER_OPTIONS)
    endpoint.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(SITE_SERVICE, sites.handlers()),
            grpc.method_handlers_generic_handler(USER_SERVICE, users.handlers()),
        )
    )
    credentials = grpc.ssl_server_credentials(
        [(kit.key_pem, kit.certificate_pem)], root_certificates=kit.root_pem, require_client_auth=True
    )
    for host in ("[::]", "0.0.0.0"):  # noqa: S104 - a server is there to be reached; mTLS decides who gets in
        try:
            if endpoint.add_secure_port(f"{host}:{kit.settings.server_port}", credentials):
                return endpoint
        except RuntimeError as error:
            log.warning("%s:%s: %s", host, kit.settings.server_port, error)
    raise ServiceError(f"port {kit.settings.server_port} cannot be bound", hint="another program uses it")


if __name__ == "__main__":
    sys.exit(run("flpoc.server", "The server of an flpoc project.", serve))
