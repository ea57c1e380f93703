"""Project files, job files and settings that say something wrong, through the commands that read them."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Answer, User, snapshot

PROJECT = """api_version: 3
name: example
participants:
  - {name: server, type: server, org: nvidia, fed_learn_port: PORT, default_host: localhost}
  - {name: site-1, type: client, org: nvidia}
  - {name: admin@nvidia.com, type: admin, org: nvidia, role: project_admin}
"""
JOB = "name = demo\nscript = train.py\n"


@pytest.fixture
def prepare(idle: User, tmp_path: Path) -> Callable[[str | bytes], Answer]:
    """Prepare what a project file says; whatever is refused leaves no trace."""

    def run(content: str | bytes) -> Answer:
        path = tmp_path / "project.yml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        before = snapshot(idle.folder)
        environment = {"FLPOC_POC_WORKSPACE": str(tmp_path / "ws"), "FLPOC_CONFIG": str(tmp_path / "config.conf")}
        done = idle.run("poc", "prepare", "-i", str(path), env=environment)
        assert snapshot(idle.folder) == before
        assert (tmp_path / "ws").exists() == (done.code == 0)
        return done

    return run


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kit of a user whose server does not run: what is wrong with a job is said before anybody is asked."""
    from flpoc.provision.building import provision
    from flpoc.provision.project_file import sample_project

    folder = tmp_path_factory.mktemp("project")
    return provision(sample_project(["site-1", "site-2"], port=1), folder) / "lead@nvidia.com"


@pytest.fixture
def submit(idle: User, tmp_path: Path, kit: Path) -> Callable[..., Answer]:
    """Submit a job with this job file; the folder is as before."""

    def run(content: str | bytes, name: str = "job.conf") -> Answer:
        folder = tmp_path / "job"
        (folder / "code").mkdir(parents=True, exist_ok=True)
        (folder / "code" / "train.py").write_text("print('hello')\n")
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        before = snapshot(folder)
        done = idle.run("job", "submit", "-j", str(folder), "--startup-kit", str(kit))
        assert snapshot(folder) == before
        return done

    return run


@pytest.fixture
def configured(idle: User, tmp_path: Path) -> Callable[[str | bytes], Answer]:
    """Use a configuration, in a command that would change it; it is as before."""

    def run(content: str | bytes) -> Answer:
        path = tmp_path / "config.conf"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        done = idle.run("poc", "config", "-pw", str(tmp_path / "elsewhere"), env={"FLPOC_CONFIG": str(path)})
        assert done.code == 0 or path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
        return done

    return run


# -- the file itself

UNREADABLE = {
    "Latin-1": ("name: größe".encode("latin-1"), "not UTF-8"),
    "UTF-16": ("name: x".encode("utf-16"), "not UTF-8"),
    "binary": (bytes(range(256)), "not UTF-8"),
    "100 MB": (b" " * (100 << 20), "larger than 1048576 bytes"),
    "NUL": (b"name: a\0b\n", ""),
    "escape": (b"name: a\x1b[31mb\n", ""),
}


@pytest.mark.row("G1")
@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_text_is_refused(prepare, submit, configured, name):
    content, says = UNREADABLE[name]
    prepare(content).refused("INVALID_CONFIG", "project.yml", says)
    submit(content).refused("INVALID_CONFIG", "job.conf", says)
    submit(content, "job.yml")  # two job files: whichever is looked at first, it is refused
    configured(content).refused("INVALID_CONFIG", "config.conf", says)


@pytest.mark.row("G1")
@pytest.mark.parametrize("content", ["", "# only a comment\n", "\n\n", "\ufeff", "---\n"], ids=repr)
def test_a_file_without_settings_is_no_project_and_no_job(prepare, submit, content):
    prepare(content).refused("INVALID_CONFIG", "project.yml")
    submit(content).refused("INVALID_CONFIG", "job.conf")


@pytest.mark.row("G1")
@pytest.mark.parametrize("content", ["", "# only a comment\n", "\ufeff\r\n", "{}"], ids=repr)
def test_a_configuration_may_be_empty(configured, content):
    assert configured(content).code == 0


@pytest.mark.row("G1")
@pytest.mark.parametrize("change", [lambda text: "\ufeff" + text, lambda text: text.replace("\n", "\r\n")])
def test_marks_of_other_systems_do_no_harm(prepare, change):
    assert prepare(change(PROJECT.replace("PORT", "8765"))).code == 0


# -- keys and values

PROJECTS = {
    "G2 misspelt": (PROJECT + "launchr: local\n", "did you mean 'launcher'?"),
    "G2 of a participant": (PROJECT.replace("org: nvidia}", "orgg: nvidia}"), "orgg"),
    "G3 twice": (PROJECT + "name: other\n", "'name' is given twice"),
    "G3 role twice": (PROJECT.replace("role: project_admin", "role: lead, role: project_admin"), "given twice"),
    "G4 no": (PROJECT.replace("name: example", "name: no"), "False is not text"),
    "G4 octal": (PROJECT.replace("PORT", "012"), "two ways"),
    "G4 base sixty": (PROJECT.replace("PORT", "1:30"), "two ways"),
    "G4 date": (PROJECT.replace("name: example", "name: 2026-01-02"), "name"),
    "G4 number": (PROJECT.replace("name: site-1", "name: 12"), "12 is not text"),
    "G4 null": (PROJECT.replace("name: site-1", "name: ~"), "is missing"),
    "G5 object": ("name: !!python/object/apply:os.system ['touch /tmp/made-by-yaml']\n", "tags"),
    "G5 module": ("name: !!python/module:os\n", "tags"),
    "G5 own tag": ("name: !x y\n", "tags"),
    "G6 bomb": ("a: &a [x,x,x]\nb: &b [*a,*a,*a]\nc: [*b,*b,*b]\n", "aliases"),
    "G6 itself": ("a: &a [*a]\n", "aliases"),
    "G7 nesting": ("a: " + "[" * 100_000, "nested too deeply"),
    "G7 blocks": ("- " * 100_000, "nested too deeply"),
    "G7 digits": (PROJECT.replace("PORT", "1" * 5000), "project.yml"),
    "G8 NaN": (PROJECT.replace("PORT", ".nan"), "nan"),
    "G8 surrogate": ('name: "\\ud800"\n', "project.yml"),
    "G9 twice": (PROJECT + "  - {name: site-1, type: client, org: nvidia}\n", "'site-1' is there twice"),
    "G9 other case": (PROJECT + "  - {name: SITE-1, type: client, org: nvidia}\n", "differ only in case"),
    "G9 server": (PROJECT.replace("name: site-1", "name: Server"), "reserved"),
    "G9 all": (PROJECT.replace("name: site-1", "name: all"), "reserved"),
    "G9 admin": (PROJECT.replace("name: site-1", "name: admin"), "reserved"),
    "G9 other form": (PROJECT.replace("name: site-1", "name: e\u0301"), "not a name of a site"),
    "G10 path": (PROJECT.replace("name: site-1", "name: ../../etc"), "'../../etc'"),
    "G10 blank": (PROJECT.replace("name: site-1", "name: ' '"), "name"),
    "G10 inner blank": (PROJECT.replace("name: site-1", "name: 'a b'"), "'a b'"),
    "G10 long": (PROJECT.replace("name: site-1", f"name: {'x' * 300}"), "at most 63"),
    "G10 emoji": (PROJECT.replace("name: site-1", "name: \U0001f642"), "not a name of a site"),
    "G10 hyphen": (PROJECT.replace("name: site-1", "name: -x"), "'-x'"),
    "G10 line end": (PROJECT.replace("name: site-1", 'name: "a\\n"'), "not a name of a site"),
    "G10 NUL": (PROJECT.replace("name: site-1", 'name: "a\\0"'), "not a name of a site"),
    "G10 other digits": (PROJECT.replace("name: site-1", "name: site-\u0661"), "not a name of a site"),
    "G10 project": (PROJECT.replace("name: example", "name: ../x"), "not a name of a project"),
    "G11 zero": (PROJECT.replace("PORT", "0"), "1 to 65535"),
    "G11 large": (PROJECT.replace("PORT", "70000"), "1 to 65535"),
    "G11 negative": (PROJECT.replace("PORT", "-1"), "1 to 65535"),
    "G11 text": (PROJECT.replace("PORT", "'8002'"), "not a port number"),
    "G11 fraction": (PROJECT.replace("PORT", "8002.5"), "not a port number"),
    "G12 any": (PROJECT.replace("localhost", "0.0.0.0"), "where a server listens"),
    "G12 any IPv6": (PROJECT.replace("localhost", "'::'"), "where a server listens"),
    "G12 URL": (PROJECT.replace("localhost", "'https://u:hunter2@fl.example/'"), "not a host name"),
    "G12 with port": (PROJECT.replace("localhost", "'fl.example:1'"), "not a host name"),
    "G12 IPv6 to dial": (PROJECT.replace("default_host: localhost", "connect_to: '2001:db8::1'"), "needs brackets"),
    "G12 blank": (PROJECT.replace("localhost", "'a b'"), "not a host name"),
    "G15 launcher": (PROJECT + "launcher: nowhere\n", "nowhere"),
    "G15 authority": (PROJECT + "authority: nowhere\n", "nowhere"),
    "G17 launcher as path": (PROJECT + "launcher: ../../x\n", "launcher"),
}


@pytest.mark.row("G2", "G3", "G4", "G5", "G6", "G7", "G8", "G9", "G10", "G11", "G12", "G15", "G17")
@pytest.mark.parametrize("name", PROJECTS)
def test_a_wrong_project_is_refused_and_nothing_is_made(prepare, name):
    content, says = PROJECTS[name]
    done = prepare(content.replace("PORT", "8765"))
    code = "PLUGIN_NOT_FOUND" if name.startswith("G15") else "INVALID_CONFIG"
    done.refused(code, says)
    assert "hunter2" not in done.out + done.err
    assert done.seconds < 15
    assert not Path("/tmp/made-by-yaml").exists()


JOBS = {
    "G2 misspelt": (JOB + "ruonds = 3", "did you mean 'rounds'?"),
    "G2 further in": (JOB + "timeouts { stal = 3 }", "did you mean 'stall'?"),
    "G3 HOCON": (JOB + "rounds = 2\nrounds = 3", "line 4: key 'rounds' is given twice"),
    "G3 path": (JOB + "timeouts { stall = 3 }\ntimeouts.stall = 4", "'timeouts.stall' is given twice"),
    "G3 JSON": ('{"name": "a", "name": "b", "script": "train.py"}', "'name' is given twice"),
    "G4 words": (JOB + "rounds = yes", "rounds"),
    "G4 text": (JOB + 'rounds = "3"', "rounds: Expected `int`"),
    "G4 fraction": (JOB + "rounds = 2.5", "rounds"),
    "G4 name": ("name = 12\nscript = train.py", "name"),
    "G7 nesting": ("[" * 100_000, "nested too deeply"),
    "G7 digits": (JOB + "seed = " + "9" * 5000, "job.conf"),
    "G7 digits in JSON": ('{"name": "a", "seed": ' + "9" * 5000 + "}", "job.conf"),
    "G8 NaN": ('{"name": "a", "script": "train.py", "timeouts": {"stall": NaN}}', "NaN"),
    "G8 infinity": ('{"name": "a", "script": "train.py", "timeouts": {"stall": 1e999}}', "1e999"),
    "G8 surrogate": ('{"name": "a", "script": "train.py", "args": ["\\ud800"]}', "args"),
    "G13 more than named": (JOB + "sites = [site-1]\nmin_clients = 2", "min_clients is 2"),
    "G13 quorum": (JOB + "sites = [site-1]\nquorum = 2", "quorum is 2"),
    "G13 mandatory": (JOB + "sites = [site-1]\nmandatory_sites = [site-2]", "'site-2' is not among the sites"),
    "G13 twice": (JOB + "sites = [site-1, SITE-1]", "named twice"),
    "G13 zero": (JOB + "min_clients = 0", "min_clients"),
    "G13 no name": (JOB + 'sites = ["../x"]', "'../x' is not a site name"),
    "G14 negative": (JOB + "timeouts { stall = -1 }", "stall must be greater than 0"),
    "G14 zero": (JOB + "timeouts { round_deadline = 0 }", "round_deadline must be greater than 0"),
    "G14 endless": (JOB + "timeouts { join_timeout = 1e12 }", "join_timeout"),
    "G14 word": (JOB + "timeouts { stall = soon }", "stall"),
    "G14 negative duration": (JOB + "timeouts { stall = -5 m }", "stall"),
    "G16 variable": (JOB + "args = ${NOT_SET}", "substitutions"),
    "G16 optional variable": (JOB + "args = ${?HOME}", "substitutions"),
    "G17 parent": ('name = a\nscript = "../train.py"', "not a path below"),
    "G17 absolute": ('name = a\nscript = "/etc/passwd"', "not a path below"),
    "G17 model": (JOB + 'initial_model = "../../m.safetensors"', "not a path below"),
    "G17 include": ('include "/etc/passwd"\n' + JOB, "include is not allowed"),
}


@pytest.mark.row("G2", "G3", "G4", "G7", "G8", "G13", "G14", "G16", "G17")
@pytest.mark.parametrize("name", JOBS)
def test_a_wrong_job_file_is_refused_before_anything_is_sent(submit, name):
    content, says = JOBS[name]
    done = submit(content)
    done.refused("INVALID_CONFIG", "job.conf", says)
    assert done.seconds < 15


CONFIGURATIONS = {
    "G3 twice": ("poc { workspace = a }\npoc { workspace = b }", "'poc.workspace' is given twice"),
    "G3 in JSON": ('{"version": 2, "version": 2}', "given twice"),
    "G4 path": ("poc { workspace = 3 }", "3 is not text"),
    "G7 nesting": ("[" * 100_000, "nested"),
    "G8 NaN": ('{"version": NaN}', "NaN"),
    "G16 variable": ("poc { workspace = ${HOME} }", "substitutions"),
    "G18 half written": ('{"version": 2, "startup_kits": {"entr', "config.conf"),
    "G18 a list": ("[1]", "keys and values"),
}


@pytest.mark.row("G3", "G4", "G7", "G8", "G16", "G18")
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_wrong_configuration_is_refused_and_kept(configured, name):
    content, says = CONFIGURATIONS[name]
    configured(content).refused("INVALID_CONFIG", "config.conf", says)


@pytest.mark.row("G9", "G10")
@pytest.mark.parametrize(
    "names",
    [
        ("a", "A"), ("a", "a"), ("server",), ("all",), ("admin",), ("*",), ("@ALL",), ("../../etc",), (" ",),
        ("x" * 300,),
        ("\U0001f642",), ("e\u0301",), ("a\nb",), ("a b",), ("_a",), ("a.b",), ("site-\u0661",),
    ],
    ids=repr,
)  # fmt: skip
def test_names_on_the_command_line_follow_the_same_rules(idle, names):
    before = snapshot(idle.folder)
    done = idle.run("poc", "prepare", "-c", *names)
    assert done.document["error_code"] in ("INVALID_CONFIG", "INVALID_ARGS")
    assert done.document["hint"]
    assert done.code == 4
    assert snapshot(idle.folder) == before


@pytest.mark.row("G11")
def test_a_port_in_use_is_named_with_its_owner_and_nothing_is_started(user, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "p.yml").write_text(PROJECT.replace("PORT", str(port)))
        assert user.run("poc", "prepare", "-i", str(tmp_path / "p.yml")).data["port_preflight"]["conflicts"]
        found = user.run("poc", "start").refused("SERVICE_FAILED", str(port), str(os.getpid()))
        assert found["data"]["port_conflict"] is True


@pytest.mark.row("G16")
@pytest.mark.parametrize("name", ["client.key", "fed_admin.json", "rootCA.pem", "client.crt"])
@pytest.mark.parametrize("change", ["open to all", "a link", "empty", "gone"])
def test_a_kit_that_is_not_as_it_was_made_is_not_used(idle, tmp_path, kit, name, change):
    import shutil

    copy = tmp_path / "kit"
    shutil.copytree(kit, copy)
    path = copy / "startup" / name
    if change == "open to all":
        path.chmod(0o666)
    elif change == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
        if change == "a link":
            path.symlink_to(kit / "startup" / name)
    done = idle.run("job", "list", "--startup-kit", str(copy), "--connect-timeout", "1")
    if change == "open to all" and name != "client.key":
        assert done.document["error_code"] == "CONNECTION_FAILED"  # only a key is secret
        return
    assert done.document["error_code"] in ("INVALID_KIT", "STARTUP_KIT_MISSING")
    assert done.document["hint"]
    assert done.code in (2, 4)


@pytest.mark.row("G18")
def test_a_file_that_changes_while_services_run_hurts_nobody_until_it_is_read(user):
    """What runs goes on; what is damaged is named; and there is always a way out."""
    user.prepare(1)
    assert user.run("poc", "start").code == 0
    project = user.workspace / "project.yml"
    whole = project.read_text()
    project.write_text(whole[: whole.index("site-1")])
    assert user.run("job", "list").data == []
    user.run("poc", "start").refused("INVALID_ARGS", "project.yml", "prepare --force")
    project.write_text(whole)
    assert user.run("poc", "start").data["already_running"].keys() == {"server", "site-1"}
    project.write_text("")
    assert user.run("poc", "clean", "--force").data["status"] == "removed"
    assert not user.workspace.exists()


@pytest.mark.row("G18")
def test_a_policy_that_is_half_written_counts_at_the_next_start_and_never_as_none(user):
    user.prepare(1)
    assert user.run("poc", "start").code == 0
    policy = user.workspace / "example_project" / "prod_00" / "site-1" / "local" / "policy.json"
    policy.write_text(policy.read_text()[:20])
    job = user.run("job", "submit", "-j", str(user.job(min_clients=1))).data["job_id"]
    assert user.run("job", "wait", job, "--timeout", "30").data["status"] == "FINISHED:COMPLETED"
    assert user.run("poc", "stop").data["status"] == "stopped"
    user.run("poc", "start").refused("SERVICE_FAILED", "policy.json")


@pytest.mark.row("G19")
def test_preparing_again_keeps_nothing_old_and_says_so(user):
    assert user.run("poc", "prepare", "-n", "1").code == 0
    old = snapshot(user.workspace)
    found = user.run("poc", "prepare", "-n", "1").refused("INVALID_ARGS", "--force")
    assert str(user.workspace) in found["message"]
    assert snapshot(user.workspace) == old
    done = user.run("poc", "prepare", "-n", "1", "--force")
    assert done.code == 0
    assert "replaced" in json.dumps(done.document)
