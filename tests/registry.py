"""A registry of images of the tests' own: one image, given out over HTTP as Docker engines fetch it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _layer(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("content")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _image(content: bytes) -> tuple[bytes, dict[str, bytes]]:
    """An image with one file: its manifest, and what that names."""
    layer = _layer(content)
    packed = gzip.compress(layer, compresslevel=1)
    config = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    told = json.dumps(config).encode()
    kind = "application/vnd.docker"
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": {"mediaType": f"{kind}.container.image.v1+json", "size": len(told), "digest": _digest(told)},
        "layers": [{"mediaType": f"{kind}.image.rootfs.diff.tar.gzip", "size": len(packed), "digest": _digest(packed)}],
    }
    return json.dumps(manifest).encode(), {_digest(told): told, _digest(packed): packed}


@contextmanager
def registry(content: bytes) -> Iterator[tuple[str, str]]:
    """Serve an image with this file, which any name and tag means; gives the registry's address and the digest."""
    manifest, blobs = _image(content)

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            what, _, which = self.path.rpartition("/")
            if self.path == "/v2/":
                self._answer(b"{}", "application/json")
            elif what.endswith("/manifests"):
                self._answer(manifest, _MANIFEST)
            elif which in blobs:
                self._answer(blobs[which], "application/octet-stream")
            else:
                self.send_error(404)

        do_HEAD = do_GET

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            for name, value in (("Content-Type", kind), ("Content-Length", len(body))):
                self.send_header(name, str(value))
            self.send_header("Docker-Content-Digest", _digest(body))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Tests have nothing to say about requests."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", _digest(manifest)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
