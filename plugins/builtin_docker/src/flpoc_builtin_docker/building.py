"""Making an image with flpoc from any image with a fitting Python, without any registry.

What is installed here is copied, with all that it needs; so what runs in the
image is what runs here, and no network is needed.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import re
import sys
import sysconfig
import tarfile
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError

from flpoc.errors import ConfigError, LaunchError
from flpoc_builtin_docker.engine import PYTHON_LABEL, asking, image_of

#: Where packages are put in the image.
SITE = "/opt/flpoc/site"
_SCRIPT = "/opt/flpoc/bin/flpoc"
_ASK = (
    "import json, sys, sysconfig; print(json.dumps([sys.executable, sysconfig.get_path('purelib'),"
    " list(sys.version_info[:2]), sysconfig.get_platform(), sys.implementation.name]))"
)
# Compiled now, as a container with a read-only root would compile it at each start: the packages, and of the standard
# library, which images often have uncompiled, what services and jobs import. Not the tests of packages.
_COMPILE = f"""
import compileall, contextlib, importlib, re
compileall.compile_dir({SITE!r}, quiet=2, rx=re.compile("/tests/"))
for name in ("flpoc.server.__main__", "flpoc.site.__main__", "flpoc.runner.trainer", "flpoc.runner.controller",
             "flpoc.client.script", "flpoc_builtin_docker.launcher"):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
"""


def official_image() -> str:
    """The official image of this Python, in its small variant."""
    return f"python:{sys.version_info[0]}.{sys.version_info[1]}-slim"


def needed(names: Iterable[str]) -> dict[str, Distribution]:
    """Distributions by name, with all that they require and that is installed here.

    Raises:
        ConfigError: One that is named is not installed.
    """
    found: dict[str, Distribution] = {}
    waiting = list(names)
    for name in waiting:
        try:
            importlib.metadata.distribution(name)
        except PackageNotFoundError:
            raise ConfigError(
                f"{name} is not installed here", hint=f"what goes into an image is copied from here: pip install {name}"
            ) from None
    while waiting:
        name = _plain_name(waiting.pop())
        if name in found:
            continue
        with contextlib.suppress(PackageNotFoundError):  # wanted on other machines only
            found[name] = importlib.metadata.distribution(name)
            for requirement in found[name].requires or ():
                if "extra ==" not in requirement:
                    waiting.append(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])
    return dict(sorted(found.items()))


def _plain_name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names_in(requirements: Path) -> list[str]:
    """Names of the distributions in a requirements file; versions are those that are installed here.

    Raises:
        ConfigError: It cannot be read, or has a line that is no requirement.
    """
    try:
        lines = requirements.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{requirements} cannot be read: {error}") from None
    names = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if text:
            found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*(?=$|[\s\[<>=!~;,])", text)
            if found is None:
                raise ConfigError(
                    f"{requirements}, line {number}: {text!r} is not the name of a package",
                    hint="options and addresses have no place here: install it, then name it",
                )
            names.append(found.group())
    return names


def files_of(one: Distribution) -> Iterator[tuple[str, Path]]:
    """What belongs to a distribution: where it goes below the folder of packages, and where it is."""
    for file in one.files or ():
        path = Path(str(one.locate_file(file)))
        if ".." in file.parts or file.suffix == ".pyc" or not path.is_file() or file.suffix == ".pth":
            continue
        yield str(file), path
    if (source := _editable(one)) is not None:
        top = source / "src" if (source / "src").is_dir() else source
        for path in sorted(top.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and ".egg-info" not in str(path):
                yield str(path.relative_to(top)), path


def _editable(one: Distribution) -> Path | None:
    text = one.read_text("direct_url.json")
    found: dict[str, Any] = json.loads(text) if text else {}
    if not found.get("dir_info", {}).get("editable"):
        return None
    return Path(urllib.request.url2pathname(urllib.parse.urlparse(found["url"]).path))


def build(
    api: docker.APIClient,
    engine: str,
    *,
    base: str,
    tag: str,
    names: Sequence[str],
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Make an image *tag* from *base* with these distributions and what they need.

    Returns:
        The image's id, the distributions in it with their versions, its interpreter and its size in bytes.

    Raises:
        LaunchError: There is no engine or no such base, or its Python does not fit.
        ConfigError: A distribution is not installed here.
    """
    found = needed(names)
    image_of(api, base, "image build", engine)
    with asking(engine, "image build", base):
        python, purelib = _fitting_python(api, base)
        say(f"copying {len(found)} packages")
        argv = [python, "-c", _COMPILE]
        made = api.create_container(base, command=argv, entrypoint=[], user="0", host_config=_no_network(api))["Id"]
        try:
            api.put_archive(made, "/", _packed(found, python, purelib))
            api.start(made)
            api.wait(made)
            changes = [f"LABEL {PYTHON_LABEL}={python}", "ENTRYPOINT []", f'CMD ["{python}"]']
            repository, _, version = tag.partition(":")
            image = api.commit(made, repository=repository, tag=version or "latest", changes="\n".join(changes))["Id"]
        finally:
            with contextlib.suppress(APIError):
                api.remove_container(made, v=True, force=True)
        size = int(api.inspect_image(image)["Size"])
    packages = {name: one.version for name, one in found.items()}
    return {"image": tag, "id": image, "base": base, "packages": packages, "python": python, "size": size}


def _no_network(api: docker.APIClient) -> dict[str, Any]:
    config: dict[str, Any] = api.create_host_config(network_mode="none")
    return config


def _fitting_python(api: docker.APIClient, base: str) -> tuple[str, str]:
    """The interpreter of an image, and where it looks for packages.

    Raises:
        LaunchError: It has none, or one for which the packages of this machine were not built.
    """
    said = _run(api, base, ["python3", "-c", _ASK])
    try:
        python, purelib, version, platform, kind = json.loads(said.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise LaunchError(
            f"image build: {base!r} has no python3 that works: {said.strip()[-200:] or 'no answer'}",
            hint=f"take an image with Python, e.g. {official_image()}",
        ) from None
    here = [list(sys.version_info[:2]), sysconfig.get_platform(), sys.implementation.name]
    if [version, platform, kind] != here:
        raise LaunchError(
            f"image build: {base!r} has {kind} {version[0]}.{version[1]} on {platform}; the packages of this machine "
            f"are for {here[2]} {here[0][0]}.{here[0][1]} on {here[1]}",
            hint=f"take an image with that version, e.g. {official_image()}",
        )
    return python, purelib


def _run(api: docker.APIClient, image: str, argv: list[str]) -> str:
    """What a program in an image writes."""
    made = api.create_container(image, command=argv, entrypoint=[], host_config=_no_network(api))["Id"]
    try:
        api.start(made)
        api.wait(made)
        return str(api.logs(made).decode(errors="replace"))
    except APIError as error:
        return str(error.explanation or error)
    finally:
        api.remove_container(made, v=True, force=True)


def _packed(found: dict[str, Distribution], python: str, purelib: str) -> bytes:
    """An archive of the packages, a line that makes the interpreter find them, and the program ``flpoc``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for one in found.values():
            for name, path in files_of(one):
                entry = archive.gettarinfo(str(path), f"{SITE[1:]}/{name}")
                entry.uid = entry.gid = 0
                entry.uname = entry.gname = ""
                entry.mode = 0o755 if entry.mode & 0o100 else 0o644
                entry.type, entry.linkname = tarfile.REGTYPE, ""
                entry.size = path.stat().st_size
                with path.open("rb") as content:
                    archive.addfile(entry, content)
        _add(archive, f"{purelib}/flpoc.pth", f"{SITE}\n", 0o644)
        _add(archive, _SCRIPT, f"#!{python}\nfrom flpoc.cli.main import main\n\nraise SystemExit(main())\n", 0o755)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, path: str, text: str, mode: int) -> None:
    entry = tarfile.TarInfo(path.lstrip("/"))
    entry.size, entry.mode = len(text.encode()), mode
    archive.addfile(entry, io.BytesIO(text.encode()))
