"""What comparable systems got wrong, tried with every command: what is said is what is so."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import User
from .test_running import processes_of

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# -- the life of a proof of concept


@pytest.mark.row("D1", "D2", "D3")
def test_after_stop_and_clean_there_is_nothing(user):
    """Stop, stop again, clean at once: no process, no port, no file, no entry in the configuration."""
    port = user.prepare(2)["port"]
    assert user.run("poc", "start").code == 0
    assert user.run("poc", "stop").data["status"] == "stopped"
    assert processes_of(user, services=True) == []
    assert not listens(port)
    again = user.run("poc", "stop")
    assert again.data["already_stopped"] is True
    assert again.seconds < 10
    assert user.run("poc", "clean").data["status"] == "removed"
    assert sorted(one.name for one in user.folder.iterdir()) == ["here", "home"]
    assert json.loads((user.home / ".flpoc" / "config.conf").read_text())["startup_kits"]["entries"] == {}


@pytest.mark.row("D2")
@pytest.mark.parametrize("way", ["while it runs", "while it starts", "after a stop that nobody waited for"])
def test_clean_by_force_leaves_no_process_and_no_port(user, way):
    port = user.prepare(2)["port"]
    assert user.run("poc", "start", *(["--no-wait"] if way == "while it starts" else [])).code == 0
    if way.startswith("after"):
        assert user.run("poc", "stop", "--no-wait").code == 0
    assert user.run("poc", "clean", "--force").data["status"] == "removed"
    assert not user.workspace.exists()
    assert processes_of(user, services=True) == []
    assert not listens(port)


@pytest.mark.row("D3")
def test_stop_of_what_never_ran_is_a_success_at_once(user):
    assert user.run("poc", "prepare", "-n", "1").code == 0
    for words in ((), ("-p", "site-1"), ("-p", "server"), ("--no-wait",)):
        done = user.run("poc", "stop", *words)
        assert done.code == 0
        assert done.seconds < 10


@pytest.mark.row("D5", "D6", "D7", "D17")
def test_what_is_reported_is_what_is_so(user):
    prepared = user.prepare(2)
    port = prepared["port"]
    alone = user.run("poc", "start", "-p", "server").data
    assert alone["server_address"] == alone["admin_address"] == f"localhost:{port}"
    assert alone["server_url"] == f"grpcs://localhost:{port}"
    assert listens(port)
    one = user.run("poc", "start", "-p", "site-1")
    assert [site["name"] if isinstance(site, dict) else site for site in one.data["clients"]] == ["site-1"]
    assert "site-2" not in json.dumps(one.data["started"])
    text = user.run("poc", "start", "-p", "site-1", text=True)
    assert not re.search(r"\b(\d+)/(\d+)\b", text.out)
    rest = user.run("poc", "start").data
    assert rest["already_running"].keys() == {"server", "site-1"}
    assert rest["started"].keys() == {"site-2"}
    assert rest["port_conflict"] is False
    refused = user.run("poc", "prepare", "-n", "1").refused("INVALID_ARGS", "--force")
    assert "poc stop" in refused["hint"]
    user.run("poc", "clean").refused("INVALID_ARGS", "--force")
    replaced = user.run("poc", "prepare", "-n", "1", "--force").data
    assert sorted(replaced["stopped"]) == ["server", "site-1", "site-2"]
    assert replaced["replaced"]
    assert processes_of(user, services=True) == []


@pytest.mark.row("D17", "D16")
def test_hints_name_the_cure(user):
    cases: list[tuple[tuple[str, ...], str, str]] = [
        (("poc", "start"), "INVALID_ARGS", "flpoc poc prepare"),
        (("poc", "stop"), "INVALID_ARGS", "flpoc poc prepare"),
        (("poc", "clean"), "INVALID_ARGS", "flpoc poc prepare"),
        (("job", "list"), "STARTUP_KIT_MISSING", "flpoc poc prepare"),
        (("config", "use", "nobody"), "INVALID_ARGS", "flpoc config add"),
    ]
    for words, code, cure in cases:
        done = user.run(*words)
        assert cure in done.refused(code)["hint"]
        assert "onnect" not in done.err
    user.prepare(1)
    assert "flpoc poc start" in user.run("job", "list").refused("CONNECTION_FAILED")["hint"]
    (user.home / ".flpoc" / "config.conf").unlink()
    assert "config use" in user.run("job", "list").refused("STARTUP_KIT_MISSING")["hint"]


@pytest.mark.row("D18")
def test_the_configured_workspace_outlives_clean(user):
    place = user.folder / "elsewhere"
    environment = {"FLPOC_POC_WORKSPACE": None}
    assert user.run("poc", "config", "-pw", str(place), env=environment).code == 0
    for _ in range(2):
        assert user.run("poc", "prepare", "-n", "1", env=environment).data["workspace"] == str(place)
        assert user.run("poc", "clean", env=environment).data["workspace"] == str(place)
        assert user.run("poc", "config", env=environment).data["poc_workspace_dir"] == str(place)
    assert not place.exists()


# -- jobs


@pytest.mark.row("D9")
@pytest.mark.parametrize("command", ["wait", "monitor"])
def test_a_time_out_is_kept_to(running, endless, command):
    """The time of the command is measured, less what it takes to do nothing."""
    job = endless()
    nothing = running.run("job", "meta", job).seconds
    done = running.run("job", command, job, "--timeout", "2")
    done.refused("TIMEOUT")
    assert 1.9 < done.seconds < 8 + nothing
    assert running.run("job", "abort", job, "--force").code == 0


@pytest.mark.row("D9", "D20")
def test_elapsed_time_is_that_of_watching(running, finished):
    time.sleep(1.2)
    done = running.run("job", "monitor", finished, "--format", "jsonl", text=True)
    last = json.loads(done.out.splitlines()[-1])
    assert last["terminal"] is True
    elapsed = [value for key, value in _pairs(last) if "elapsed" in key]
    # the job is older than this command
    assert all(value < done.seconds for value in elapsed if isinstance(value, (int, float)))


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key), inner
            yield from _pairs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _pairs(inner)


@pytest.mark.row("D20")
def test_times_have_one_form_everywhere(running, finished):
    documents = [
        running.run("job", "list").data,
        running.run("job", "meta", finished).data,
        running.run("job", "wait", finished).data,
        running.run("job", "logs", finished, "--site", "all").data,
        running.run("config", "list").data,
    ]
    times = [
        (key, value)
        for one in documents
        for key, value in _pairs(one)
        if re.search(r"(_time|_at|^time)$", key) and value
    ]
    assert times
    assert [(key, value) for key, value in times if not ISO.fullmatch(str(value))] == []
    lengths = [(key, value) for one in documents for key, value in _pairs(one) if key.endswith("_s")]
    assert lengths
    assert [one for one in lengths if one[1] is not None and not isinstance(one[1], (int, float))] == []


@pytest.mark.row("D10")
def test_an_idle_system_says_that_it_is_there(user):
    user.prepare(1)
    assert user.run("poc", "start").code == 0
    assert user.run("job", "list").data == []
    said = user.run("job", "list", text=True)
    assert (said.out.strip(), said.err) == ("No jobs.", "")
    assert "stopped" not in json.dumps(user.run("poc", "start").data["services"])


@pytest.mark.row("D11")
def test_people_get_tables_and_the_name_that_they_gave(running, finished):
    said = running.run("job", "meta", finished, text=True)
    assert "{" not in said.out
    assert running.run("job", "meta", finished).data["job_folder_name"] == "finished"
    assert "tmp" not in running.run("job", "meta", finished).data["job_folder_name"]


def logs_of(user: User, job: str) -> dict[str, str]:
    return dict(user.run("job", "logs", job, "--site", "all").data["logs"])


@pytest.mark.row("D12", "D13")
def test_a_download_has_the_model_and_every_log_or_says_what_is_missing(running, finished, tmp_path):
    until = time.monotonic() + 60  # logs follow the end of a job
    while {"site-1", "site-2"} - {name for name, text in logs_of(running, finished).items() if text}:
        assert time.monotonic() < until
    data = running.run("job", "download", finished, "-o", str(tmp_path)).data
    assert Path(data["artifacts"]["global_model"]).is_file()
    assert data["missing_artifacts"] == []
    folder = Path(data["path"])
    listed = json.loads((folder / "artifact_manifest.json").read_text())["artifacts"]
    assert all((folder / name).is_file() for name in listed.values() if isinstance(name, str))
    assert set(data["artifacts"]["client_logs"]) | set(data["sites_without_log"]) == {"site-1", "site-2"}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {one["path"] for one in data["files"]} <= found


@pytest.mark.row("D13")
def test_logs_for_programs_are_text_and_records(running, finished):
    data = running.run("job", "logs", finished, "--site", "all").data
    for text in data["logs"].values():
        assert isinstance(text, str)
        assert not text.lstrip().startswith(("{", '"'))
    for site in data["sites"].values():
        for record in site.get("records") or []:
            assert isinstance(record["message"], str)


@pytest.mark.row("D15")
@pytest.mark.parametrize(
    "words", [("--format", "yaml", "job", "list"), ("--format=", "job", "list"), ("job", "explode")]
)
def test_a_wrong_word_is_told_in_the_envelope(idle, words):
    done = idle.run(*words, text=words[0].startswith("--format"))
    if words == ("--format=", "job", "list"):
        assert done.code == 4
        assert "--format" in done.err
    else:
        assert next(word for word in words if word in ("yaml", "explode")) in done.refused("INVALID_ARGS")["message"]


# -- the server


@pytest.mark.row("D22")
def test_the_server_grows_by_no_model_and_goes_on_after_a_restart(user):
    """A model of 64 MB from two sites, and the server killed in the middle of the job."""
    user.prepare(2)
    started = user.run("poc", "start").data["started"]
    folder = user.job("large", rounds=4)
    text = (
        (folder / "code" / "train.py").read_text().replace("np.zeros(4, np.float32)", "np.zeros(16 << 20, np.float32)")
    )
    (folder / "code" / "train.py").write_text(text)
    before = memory(started["server"])
    job = user.run("job", "submit", "-j", str(folder)).data["job_id"]
    until = time.monotonic() + 120
    while not (meta := user.run("job", "meta", job).data)["rounds_committed"]:
        assert not meta["status"].startswith("FINISHED"), meta["cause"]
        assert time.monotonic() < until, meta["waiting_for"]
    assert memory(started["server"]) - before < 60 << 20
    os.kill(started["server"], 9)
    assert user.run("poc", "start").data["ready"]
    assert user.run("job", "wait", job, "--timeout", "100", limit=120).data["status"] == "FINISHED:COMPLETED"


def memory(pid: int) -> int:
    """The most anonymous memory is not told by the kernel; what is held now is."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) << 10
