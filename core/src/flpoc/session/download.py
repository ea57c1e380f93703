"""How a session fetches results: all of them beside the target, checked, then put in place at once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from flpoc.errors import FlpocError, IntegrityError, JobError, ResourceError, UsageError, did_you_mean
from flpoc.jobs.names import JOB_ID
from flpoc.jobs.paths import check_paths

if TYPE_CHECKING:
    from flpoc.session.connection import Connection
    from flpoc.session.jobs import JobCalls

#: What was downloaded; also says which files of the folder are ours to replace.
RECEIPT = "download.json"


@attrs.frozen
class Download:
    """A job's results on this machine.

    Attributes:
        job_id: The job.
        status: Its state.
        path: The folder.
        files: Path below the folder, size and SHA-256 of every file.
        sha256: SHA-256 of the final model, or empty.
        manifest: The artifact manifest of the results; None if there is none.
        kept: Where files of a replaced folder went that were not of a download; None if there were none.
    """

    job_id: str
    status: str
    path: Path
    files: tuple[Mapping[str, Any], ...]
    sha256: str
    manifest: Mapping[str, Any] | None = None
    kept: Path | None = None


def download(
    session: JobCalls,
    job: str,
    output: Path,
    force: bool,
    progress: Callable[[int, int], None] | None,
    *,
    only: Collection[str] = (),
) -> Download:
    """Fetch everything of a job, or *only* some, into ``<output>/<job id>``."""
    answer = session.results_of(job)
    job_id, files = _checked(answer)
    if only:
        known = {str(one["path"]) for one in files}
        if unknown := sorted(set(only) - known):
            raise UsageError(f"job {job_id} has no component {unknown[0]!r}", hint=did_you_mean(unknown[0], known))
        files = [one for one in files if one["path"] in only]
    target = output.expanduser().absolute() / job_id
    if not force:
        _refuse_existing(target)
    elif target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UsageError(f"{target} is not a folder", hint="move it away, or choose another --output-dir")
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{job_id}.", suffix=".part", dir=target.parent))
        try:
            _fetch_all(session, job_id, files, fresh, progress)
            receipt = {"job_id": job_id, "status": answer["status"], "files": files}
            (fresh / RECEIPT).write_text(json.dumps(receipt, indent=2) + "\n", encoding="utf-8")
            fresh.chmod(0o755)
            kept = _put(fresh, target, force)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
    manifest = _manifest(target)
    return Download(
        job_id, str(answer["status"]), target, tuple(files), str(answer.get("sha256") or ""), manifest, kept
    )


def _checked(answer: Mapping[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """Names that the server says become paths here, so they are looked at first."""
    job_id, files = str(answer["job_id"]), [dict(one) for one in answer["files"]]
    if not JOB_ID.match(job_id):
        raise IntegrityError(f"the server says the job id {job_id[:80]!r}")
    check_paths([str(one["path"]) for one in files])
    return job_id, files


def _refuse_existing(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} exists already", hint="give --force to replace it, or another --output-dir")


def _fetch_all(
    session: Connection,
    job: str,
    files: list[dict[str, Any]],
    folder: Path,
    progress: Callable[[int, int], None] | None,
) -> None:
    done, total = 0, sum(int(one["size"]) for one in files)
    if shutil.disk_usage(folder).free < total:
        raise ResourceError(f"{folder.parent}: the results have {total} bytes, more than is free", code="DISK_FULL")
    for one in files:
        path = folder / one["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        with path.open("xb") as file:
            for chunk in _chunks(session, job, one["path"], int(one["size"])):
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
        if (size, digest.hexdigest()) != (one["size"], one["sha256"]):
            raise IntegrityError(
                f"{one['path']}: {size} bytes came, and they are not those that the server announced",
                hint="download again",
            )


def _chunks(session: Connection, job: str, path: str, size: int) -> Iterator[bytes]:
    import grpc

    from flpoc.session.channel import lost
    from flpoc.wire.asks_for_files import ReadResult

    stream = session.stream("Download", ReadResult(job, path, size, study=session.study))
    try:
        yield from stream
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            raise JobError(str(error.details()), code="JOB_NOT_FOUND") from error
        raise lost(session.kit, error) from error
    finally:
        stream.cancel()


def _put(fresh: Path, target: Path, force: bool) -> Path | None:
    """Rename *fresh* to *target*; what was there is deleted only if a download made it."""
    if not force or not target.exists():
        _refuse_existing(target)
        fresh.rename(target)
        return None
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
    target.rename(old)
    try:
        fresh.rename(target)
    except BaseException:
        old.rename(target)
        raise
    if _all_ours(old):
        shutil.rmtree(old, ignore_errors=True)
        return None
    return _beside(old, target)


def _all_ours(folder: Path) -> bool:
    """Whether every file is one that a download wrote, unchanged in size."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
    if not found:
        return True
    try:
        receipt = json.loads((folder / RECEIPT).read_text(encoding="utf-8"))
        sizes = {str(one["path"]): int(one["size"]) for one in receipt["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    found.pop(RECEIPT, None)
    return all(not path.is_symlink() and path.stat().st_size == sizes.get(name) for name, path in found.items())


def _beside(old: Path, target: Path) -> Path:
    number = 1
    while (kept := target.with_name(f"{target.name}.replaced-{number}")).exists() or kept.is_symlink():
        number += 1
    old.rename(kept)
    return kept


def _manifest(folder: Path) -> Mapping[str, Any] | None:
    path = folder / "artifact_manifest.json"
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else None
    return None


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Say which place cannot be written, and that it is the place."""
    try:
        yield
    except OSError as error:
        import errno

        message = f"{target.parent}: {error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(message, hint="make room and download again", code="DISK_FULL") from error
        hint = "choose another --output-dir, or change its permissions"
        raise FlpocError(f"{message}: cannot be written", hint=hint, code="OUTPUT_DIR_NOT_WRITABLE") from error
