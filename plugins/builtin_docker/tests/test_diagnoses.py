"""What goes wrong with an engine or an image is said in one line, with what to do."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import engine as engines
import pytest
from registry import registry

from flpoc.errors import LaunchError
from flpoc.launching import Handle, LaunchRequest, Mount, Needs, State
from flpoc_builtin_docker.engine import said_of_engine
from flpoc_builtin_docker.launcher import DockerLauncher
from flpoc_builtin_docker.settings import OWN_IMAGE, DockerSettings

Ask = Callable[..., LaunchRequest]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    def make(*argv: str, **more: Any) -> LaunchRequest:
        usual = {"workdir": str(tmp_path), "state": str(tmp_path / "state"), "log": str(tmp_path / "log")}
        return LaunchRequest(name="job.site-1.1", argv=argv or ("python3", "-c", "pass"), **{**usual, **more})

    return make


def launcher(engine: engines.Engine, image: str = engines.BASE) -> DockerLauncher:
    return DockerLauncher(DockerSettings(engine=engine.address, image=image))


def test_no_engine(ask: Ask, tmp_path: Path) -> None:
    here = DockerLauncher(DockerSettings(engine=f"unix://{tmp_path}/none"))
    for act in (lambda: here.launch(ask()), lambda: here.make_ready(print), here.python):
        with pytest.raises(LaunchError, match="no Docker engine answers at unix://") as caught:
            act()
        assert "systemctl start docker" in caught.value.hint
        assert "\n" not in caught.value.message


def test_no_engine_is_no_reason_to_call_something_alive(ask: Ask, engine: engines.Engine, tmp_path: Path) -> None:
    handle = launcher(engine).launch(ask("python3", "-c", "import time; time.sleep(600)", network="none"))
    away = Handle(handle.launcher, handle.name, handle.ref.replace(engine.address, f"unix://{tmp_path}/none"))
    try:
        status = launcher(engine).poll(away)
        assert (status.state, status.code) == (State.EXITED, None)
        assert "does not answer" in status.reason
        with pytest.raises(LaunchError, match="no Docker engine"):
            launcher(engine).stop(away)
    finally:
        launcher(engine).stop(handle, grace=0)


@pytest.mark.skipif(os.getuid() == 0, reason="root may use every socket")
def test_no_permission(ask: Ask, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(tmp_path / "s"))
        (tmp_path / "s").chmod(0)
        with pytest.raises(LaunchError, match="no permission on the socket") as caught:
            DockerLauncher(DockerSettings(engine=f"unix://{tmp_path}/s")).launch(ask())
    assert "group docker" in caught.value.hint


@pytest.mark.skipif(os.getuid() != 0, reason="is about root")
def test_roots_files_are_given_to_who_runs_in_the_container(ask: Ask, engine: engines.Engine, tmp_path: Path) -> None:
    for name in ("mine", "mine/inner", "data", "data/inner", "elsewhere"):
        (tmp_path / name).mkdir(mode=0o700)
    (tmp_path / "mine" / "inner" / "file").touch(mode=0o600)
    (tmp_path / "mine" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "mine" / "theirs").touch()
    os.chown(tmp_path / "mine" / "theirs", 4321, 4321)
    mine, data = str(tmp_path / "mine"), str(tmp_path / "data")
    code = "import os; os.listdir('/seen'); open('/seen/new', 'w'); open('inner/file').read(); print(os.getuid())"
    request = ask("python3", "-c", code, workdir=mine, network="none", mounts=(Mount(data, "/seen", writable=True),))
    here = launcher(engine)
    status = here.wait(here.launch(request), 60)
    assert status.code == 0, (tmp_path / "log").read_text()
    assert (tmp_path / "log").read_text() == "10000\n"
    given = {str(one.relative_to(tmp_path)): one.stat().st_uid for one in tmp_path.rglob("*")}
    theirs = {name for name, owner in given.items() if owner == 10000}
    assert theirs == {"mine", "mine/inner", "mine/inner/file", "data", "data/new"}
    assert given["mine/theirs"] == 4321


@pytest.mark.skipif(os.getuid() != 0, reason="is about root")
def test_a_job_that_root_launches_outside_of_containers_is_refused(
    ask: Ask, engine: engines.Engine, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir(mode=0o700)
    models = str(tmp_path / "models")
    with pytest.raises(LaunchError, match=f"{models} is root's alone, and containers run as user 10000") as refused:
        launcher(engine).launch(ask(network="agent", mounts=(Mount(models, models),)))
    assert "group docker" in refused.value.hint
    assert engine.api.containers(all=True) == []


def test_a_missing_image(ask: Ask, engine: engines.Engine) -> None:
    with pytest.raises(LaunchError, match="has no image 'nobody/nothing'") as caught:
        launcher(engine, "nobody/nothing").launch(ask(network="none"))
    assert "docker pull nobody/nothing" in caught.value.hint
    with pytest.raises(LaunchError) as caught:
        launcher(engine, OWN_IMAGE).make_ready(print)
    assert "flpoc image build" in caught.value.hint


def test_an_image_that_cannot_be_fetched(engine: engines.Engine) -> None:
    with pytest.raises(LaunchError, match=r"127\.0\.0\.1:9/none.*cannot be fetched") as caught:
        launcher(engine, "127.0.0.1:9/none:1").make_ready(print)
    assert "registry" in caught.value.hint


def test_an_image_is_fetched_before_it_is_needed_and_it_is_said_how_far_it_is(engine: engines.Engine) -> None:
    said: list[str] = []
    with registry(os.urandom(1 << 20)) as (address, digest):
        name = f"{address}/tools/mine:3"
        here = launcher(engine, name)
        assert here.make_ready(said.append) == {"engine": engine.address, "image": name}
        assert said[0] == f"fetching {name}"
        assert any("Downloading" in one and "MB" in one for one in said), said
        assert "Pull complete" in " ".join(said)
        said.clear()
        here.make_ready(said.append)
        assert said == []  # it is there
        launcher(engine, f"{address}/others@{digest}").make_ready(said.append)
        launcher(engine, f"{address}/others").make_ready(said.append)
    engine.api.remove_image(name)


def test_an_engine_of_another_machine_is_refused_before_anything_is_launched(ask: Ask, tmp_path: Path) -> None:
    there = DockerLauncher(DockerSettings(engine="tcp://127.0.0.1:9"))
    for act in (lambda: there.make_ready(print), lambda: there.launch(ask())):
        with pytest.raises(LaunchError, match=r"a socket on this machine; tcp://127\.0\.0\.1:9 is none") as caught:
            act()
        assert "unix:///var/run/docker.sock" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_an_image_without_a_shell(ask: Ask, engine: engines.Engine, tmp_path: Path) -> None:
    whole, without = io.BytesIO(engines.base_image()), io.BytesIO()
    shell = {"bin/sh", str(Path("/bin/sh").resolve())[1:]}
    with tarfile.open(fileobj=whole) as source, tarfile.open(fileobj=without, mode="w") as target:
        for entry in source:
            if entry.name not in shell:
                target.addfile(entry, source.extractfile(entry) if entry.isfile() else None)
    engine.api.import_image_from_data(without.getvalue(), repository="shell-less", tag="1")
    here = launcher(engine, "shell-less:1")
    code = "import sys; print('said'); print('complained', file=sys.stderr); sys.exit(3)"
    try:
        assert here.wait(here.launch(ask("python3", "-c", code, network="none")), 60).code == 3
        assert sorted((tmp_path / "log").read_text().split()) == ["complained", "said"]
        with pytest.raises(LaunchError, match="shell-less:1 has no such program"):
            here.launch(ask("/bin/sh", "-c", "true", network="none"))
    finally:
        engine.api.remove_image("shell-less:1", force=True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes disks of its own")
def test_on_a_full_disk_it_is_known_how_a_container_ended_until_that_can_be_written_down(
    ask: Ask, engine: engines.Engine, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)], check=True)
    here = launcher(engine)
    code = (
        "import pathlib, sys, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.1)\nprint('said'); sys.exit(5)"
    )
    try:
        handle = here.launch(ask("python3", "-c", code, network="none", state=str(disk)))
        subprocess.run(["dd", "if=/dev/zero", f"of={disk}/filler"], check=False, capture_output=True)  # to its end
        (tmp_path / "go").touch()
        engine.api.wait(engine.api.containers()[0]["Id"], timeout=60)
        assert here.wait(handle, 1).code in (5, None)  # its keeper may be looking at it
        assert len(engine.api.containers(all=True)) == 1
        (disk / "filler").unlink()
        assert here.wait(handle, 60).code == 5
        here.stop(handle)
        assert here.poll(handle).code == 5
        assert engine.api.containers(all=True) == []
        assert (tmp_path / "log").read_text() == "said\n"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_an_image_without_flpoc(ask: Ask, engine: engines.Engine) -> None:
    here = launcher(engine)
    handle = here.launch(ask("python3", "-m", "flpoc.runner.trainer", network="none"))
    status = here.wait(handle, 60)
    assert status.code == 1
    assert f"the image {engines.BASE} has no flpoc: `flpoc image build --base {engines.BASE}`" in status.reason


def test_out_of_memory(ask: Ask, engine: engines.Engine) -> None:
    here = launcher(engine)
    code = "held = []\nwhile True: held.append(bytearray(b'x' * (1 << 20)))"
    handle = here.launch(ask("python3", "-c", code, network="none", needs=Needs(memory_gib=0.0625)))
    status = here.wait(handle, 100)
    assert status.code == -9
    assert "out of memory (its limit is 0.0625 GiB)" in status.reason


def test_graphics_processors_that_are_not_there(ask: Ask, engine: engines.Engine) -> None:
    with pytest.raises(LaunchError, match="graphics processors were asked for") as caught:
        launcher(engine).launch(ask(network="none", needs=Needs(gpus=("0",))))
    assert "NVIDIA Container Toolkit" in caught.value.hint
    assert engine.api.containers(all=True) == []


def test_plugins_show_says_which_engine_there_is(engine: engines.Engine, tmp_path: Path) -> None:
    assert "answers at" in said_of_engine(DockerSettings(engine=engine.address))
    assert "no Docker engine answers" in said_of_engine(DockerSettings(engine=f"unix://{tmp_path}/none"))
