"""The network of services goes with the last container, whoever was killed in between; never sooner."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import engine as engines
import pytest

from flpoc.errors import LaunchError
from flpoc.launching import Handle, LaunchRequest, State, Status
from flpoc_builtin_docker.launcher import DockerLauncher
from flpoc_builtin_docker.networks import OURS, leave
from flpoc_builtin_docker.records import Ref, locked
from flpoc_builtin_docker.settings import DockerSettings

SLEEP = ("python3", "-c", "import time; time.sleep(600)")


@pytest.fixture
def launcher(engine: engines.Engine) -> DockerLauncher:
    return DockerLauncher(DockerSettings(engine=engine.address, image=engines.BASE))


def service(folder: Path, name: str = "server", **more: Any) -> LaunchRequest:
    argv = more.pop("argv", SLEEP)
    return LaunchRequest(
        name, argv, str(folder), str(folder / "state"), str(folder / f"{name}.log"), host=name, **more
    )  # fmt: skip


def networks(engine: engines.Engine) -> list[str]:
    return [one["Name"] for one in engine.api.networks(filters={"label": OURS})]


def ref_of(handle: Handle) -> Ref:
    ref = Ref.parse(handle)
    assert ref is not None
    return ref


def kill_keeper(handle: Handle) -> None:
    """Kill the keeper, and return when its lock is free."""
    name = handle.name.encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"flpoc-keeper" in words and name in words:
                os.kill(int(entry.name), signal.SIGKILL)
    with locked(ref_of(handle).path("keeper")):
        return


def test_it_goes_with_the_last(launcher: DockerLauncher, engine: engines.Engine, tmp_path: Path) -> None:
    first, second = (launcher.launch(service(tmp_path, name)) for name in ("first", "second"))
    assert len(networks(engine)) == 1
    launcher.stop(first, grace=0)
    assert len(networks(engine)) == 1
    launcher.stop(second, grace=0)
    assert networks(engine) == []


def test_owners_on_one_engine_do_not_meet(launcher: DockerLauncher, engine: engines.Engine, tmp_path: Path) -> None:
    handles = []
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
        handles.append(launcher.launch(service(tmp_path / name)))
    mine, theirs = handles
    assert len({ref_of(one).network for one in handles}) == 2
    launcher.stop(mine, grace=0)
    assert launcher.poll(theirs).running
    assert networks(engine) == [ref_of(theirs).network]
    launcher.stop(theirs, grace=0)
    assert networks(engine) == []


def test_it_stays_for_a_container_that_was_made_and_not_yet_started(
    launcher: DockerLauncher, engine: engines.Engine, tmp_path: Path
) -> None:
    handle = launcher.launch(service(tmp_path))
    ref = ref_of(handle)
    host = engine.api.create_host_config(network_mode=ref.network)
    made = engine.api.create_container(engines.BASE, command=list(SLEEP), host_config=host)["Id"]
    try:
        launcher.stop(handle, grace=0)
        assert networks(engine) == [ref.network]
        engine.api.start(made)
    finally:
        engine.api.remove_container(made, force=True)
    leave(engine.api, ref)
    assert networks(engine) == []


@pytest.mark.parametrize("told", [True, False], ids=["its end is written down", "nothing is written down"])
def test_a_stop_removes_it_where_a_keeper_was_killed_before_it_could(
    launcher: DockerLauncher, engine: engines.Engine, tmp_path: Path, told: bool
) -> None:
    handle = launcher.launch(service(tmp_path))
    kill_keeper(handle)
    ref = ref_of(handle)
    if told:
        ref.write_end(Status(State.EXITED, 0))
    engine.api.remove_container(ref.id, force=True)
    assert networks(engine) == [ref.network]
    launcher.stop(handle)
    assert networks(engine) == []
    assert launcher.poll(handle).code == (0 if told else None)


def test_a_stop_does_not_return_while_a_keeper_is_removing(
    launcher: DockerLauncher, engine: engines.Engine, tmp_path: Path
) -> None:
    handle = launcher.launch(service(tmp_path))
    kill_keeper(handle)
    ref = ref_of(handle)
    left: list[str] = []

    def stop() -> None:
        launcher.stop(handle)
        left.extend(networks(engine))
        left.append("returned")

    stopping = threading.Thread(target=stop)
    with locked(ref.path("keeper")):  # as a keeper does
        ref.write_end(Status(State.EXITED, 0))
        engine.api.remove_container(ref.id, force=True)
        stopping.start()
        stopping.join(0.5)
        assert left == []
        leave(engine.api, ref)
    stopping.join(60)
    assert left == ["returned"]


def test_a_launch_that_fails_leaves_none(engine: engines.Engine, launcher: DockerLauncher, tmp_path: Path) -> None:
    absent = DockerLauncher(DockerSettings(engine=engine.address, image="nobody/nothing"))
    with pytest.raises(LaunchError, match="has no image"):
        absent.launch(service(tmp_path))
    with pytest.raises(LaunchError, match="no such program"):
        launcher.launch(service(tmp_path, argv=("nothing-of-that-name",)))
    assert networks(engine) == []
    assert engine.api.containers(all=True) == []


def test_another_network_of_the_engine_is_left_alone(engine: engines.Engine, tmp_path: Path) -> None:
    theirs = engine.api.create_network("theirs", driver="bridge")["Id"]
    try:
        here = DockerLauncher(DockerSettings(engine=engine.address, image=engines.BASE, network="theirs"))
        here.stop(here.launch(service(tmp_path)), grace=0)
        assert [one["Id"] for one in engine.api.networks(names=["theirs"])] == [theirs]
    finally:
        engine.api.remove_network(theirs)


@pytest.mark.timeout(600)
def test_what_the_death_of_an_engine_interrupted_is_finished_when_it_is_back(
    launcher: DockerLauncher, engine: engines.Engine, tmp_path: Path
) -> None:
    kept, alone = (launcher.launch(service(tmp_path, name)) for name in ("kept", "alone"))
    kill_keeper(alone)
    engine.kill()
    for handle in (kept, alone):
        ref_of(handle).write_end(Status(State.EXITED, 0))  # the engine has died in the middle of the removal
        with pytest.raises(LaunchError, match="no Docker engine answers"):
            launcher.stop(handle)
    engine.start()
    until = time.monotonic() + 120
    while not ref_of(kept).is_removed():
        assert time.monotonic() < until
        time.sleep(0.1)  # its keeper, a process of its own
    assert launcher.poll(alone).code == 0
    assert engine.api.containers(all=True) == []
    assert networks(engine) == []
