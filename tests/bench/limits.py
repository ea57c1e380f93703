"""What this machine can do at most: bare streams, memory, disk cache, checksum, mean.

Run as a program, it is the other end of a stream: ``limits.py grpc|tls KIT COUNT``
serves COUNT pieces of 1 MiB to each caller, and says its port on standard output.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from figures import Figure, spread
from place import Bench, BenchError, Measurement, Place, place, seconds_of

MIB = 1 << 20
_METHOD = "/bench.Bare/Stream"


def _figure(key: str, runs: list[float], size: int, note: str = "") -> Figure:
    """GB/s of the median run."""
    speeds = [size / one / 1e9 for one in runs]
    note = "; ".join(filter(None, (note, spread(speeds))))
    return Figure(f"machine.{key}", statistics.median(speeds), note)


# -- streams between two processes


def _kits(where: Place) -> tuple[Any, Any]:
    """A server's and a site's kit, as every project has them."""
    from flpoc.provision.building import provision
    from flpoc.provision.kits import load_kit
    from flpoc.provision.project_file import sample_project

    prod = provision(sample_project(["site-1"]), where.workspace)
    return load_kit(prod / "server", kind="server"), load_kit(prod / "site-1", kind="site")


@contextmanager
def _served(where: Place, kind: str, kit: Path, count: int) -> Iterator[int]:
    """The other end as a process; gives its port."""
    argv = [sys.executable, __file__, kind, str(kit), str(count)]
    with subprocess.Popen(argv, env=where.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            if not line.isdigit():
                raise BenchError(f"the other end of the {kind} stream did not start")
            yield int(line)
        finally:
            process.terminate()
            process.wait(20)


def _pieces(bench: Bench) -> int:
    return 256 if bench.quick else 1024


def bare_stream(bench: Bench) -> Iterator[Figure]:
    """One gRPC stream under mutual TLS, with the options that models travel with."""
    count = _pieces(bench)
    with place() as where:
        server, site = _kits(where)
        with _served(where, "grpc", server.folder, count) as port:
            runs = asyncio.run(_read_streams(site, port, count, 3))
    yield _figure("stream", runs, count * MIB)


async def _read_streams(kit: Any, port: int, count: int, times: int) -> list[float]:
    import grpc

    from flpoc.wire.options import channel_options

    credentials = grpc.ssl_channel_credentials(kit.root_pem, kit.key_pem, kit.certificate_pem)
    options = channel_options(kit.certificate_name, separate=True)
    runs = []
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        await channel.channel_ready()
        loop = asyncio.get_running_loop()
        for _ in range(times):
            began, received = loop.time(), 0
            async for piece in channel.unary_stream(_METHOD)(b""):
                received += len(piece)
            if received != count * MIB:
                raise BenchError(f"{received} bytes arrived, not {count * MIB}")
            runs.append(loop.time() - began)
    return runs


async def _serve_grpc(kit: Any, count: int) -> None:
    import grpc

    from flpoc.wire.options import server_options

    piece = os.urandom(MIB)

    async def stream(_request: bytes, _context: Any) -> Any:
        for _ in range(count):
            yield piece

    service, _, method = _METHOD.strip("/").partition("/")
    server = grpc.aio.server(options=server_options(100))
    handler = grpc.unary_stream_rpc_method_handler(stream)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    credentials = grpc.ssl_server_credentials(
        [(kit.key_pem, kit.certificate_pem)], root_certificates=kit.root_pem, require_client_auth=True
    )
    print(server.add_secure_port("127.0.0.1:0", credentials), flush=True)
    await server.start()
    await server.wait_for_termination()


def raw_tls(bench: Bench) -> Iterator[Figure]:
    """A TLS connection without gRPC, certificates on both sides."""
    count = _pieces(bench)
    with place() as where:
        server, site = _kits(where)
        tls = _tls(site, ssl.PROTOCOL_TLS_CLIENT, where.folder)
        buffer = bytearray(MIB)
        runs, cipher = [], ""
        with _served(where, "tls", server.folder, count) as port:
            for _ in range(3):
                with socket.create_connection(("127.0.0.1", port)) as plain, tls.wrap_socket(plain) as secure:
                    secure.recv_into(buffer, 1)  # the handshake is over on both sides
                    runs.append(seconds_of(lambda: _drain(secure, buffer, count * MIB)))
                    cipher = (secure.cipher() or ("",))[0]
    yield _figure("tls", runs, count * MIB, cipher)


def _drain(secure: ssl.SSLSocket, buffer: bytearray, size: int) -> None:
    left = size
    while left:
        got = secure.recv_into(buffer)
        if not got:
            raise BenchError(f"the stream ended {left} bytes early")
        left -= got


def _tls(kit: Any, protocol: int, folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False  # a test of speed between two processes of this bench
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=kit.root_pem.decode())
    pair = folder / "pair.pem"
    pair.touch(mode=0o600)
    pair.write_bytes(kit.key_pem + kit.certificate_pem)
    try:
        context.load_cert_chain(pair)
    finally:
        pair.unlink()
    return context


def _serve_tls(kit: Any, count: int) -> None:
    context = _tls(kit, ssl.PROTOCOL_TLS_SERVER, kit.folder)
    piece = os.urandom(MIB)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            plain, _ = listener.accept()
            with plain, context.wrap_socket(plain, server_side=True) as secure:
                secure.sendall(b".")
                for _ in range(count):
                    secure.sendall(piece)


# -- within one process


def memory_and_disk(bench: Bench) -> Iterator[Figure]:
    """Copy, write, hash."""
    import numpy as np
    import xxhash

    size = (64 if bench.quick else 256) * MIB
    source = np.random.default_rng(1).integers(0, 255, size, dtype=np.uint8)
    target = np.zeros_like(source)
    yield _figure("memcpy", _three(lambda: np.copyto(target, source)), size)
    with place() as where:
        path = where.folder / "written"
        runs = []
        for _ in range(3):
            runs.append(seconds_of(lambda: _write(path, source)))
            path.unlink()
    yield _figure("write", runs, size)
    yield _figure("xxh3", _three(lambda: _hash(xxhash.xxh3_128(), source)), size)


def _three(act: Callable[[], object]) -> list[float]:
    act()
    return [seconds_of(act) for _ in range(3)]


def _write(path: Path, source: Any) -> None:
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(source), MIB):
            file.write(source[start : start + MIB])


def _hash(hasher: Any, source: Any) -> None:
    for start in range(0, len(source), MIB):
        hasher.update(source[start : start + MIB])


def mean(bench: Bench) -> Iterator[Figure]:
    """The weighted mean of two updates in files, as the controller makes it."""
    import numpy as np

    from flpoc.aggregating import Update
    from flpoc.models.tensors import TensorFile, write_tensors
    from flpoc.workflows.mean import WeightedMean

    size = (10 if bench.quick else 100) * 1_000_000
    with place() as where:
        updates = []
        for site in (1, 2):
            path = where.folder / f"update-{site}"
            numbers = np.random.default_rng(site).random(size // 16, dtype=np.float32)
            write_tensors(path, {f"tensor-{number}": numbers + np.float32(number) for number in range(4)})
            updates.append(Update(f"site-{site}", 1.0, TensorFile.open(path)))
        runs = []
        for _ in range(3):
            into = where.folder / "mean"
            runs.append(seconds_of(lambda: WeightedMean().aggregate(updates, None, into)))  # noqa: B023 - used at once
            into.unlink()
        for one in updates:
            one.model.close()
    note = f"2 x {size // 1_000_000} MB in {statistics.median(runs):.2f} s"
    yield _figure("mean", runs, 2 * size, note)


BENCHES: Mapping[str, Measurement] = {
    "machine": Measurement(memory_and_disk, ("machine.memcpy", "machine.write", "machine.xxh3")),
    "mean": Measurement(mean, ("machine.mean",)),
    "tls": Measurement(raw_tls, ("machine.tls",)),
    "stream": Measurement(bare_stream, ("machine.stream",)),
}


def main(kind: str, kit_folder: str, count: str) -> None:
    from flpoc.provision.kits import load_kit

    kit = load_kit(Path(kit_folder), kind="server")
    if kind == "grpc":
        asyncio.run(_serve_grpc(kit, int(count)))
    else:
        _serve_tls(kit, int(count))


if __name__ == "__main__":
    main(*sys.argv[1:])
