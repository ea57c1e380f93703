"""Project files: what is read, what is refused and how, and that a written one reads the same again."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from flpoc.errors import ConfigError
from flpoc.provision.project_file import read_project, sample_project, write_project
from flpoc.provisioning import Participant, Project

SERVER = "  - {name: server1, type: server, org: nvidia, fed_learn_port: 8102}\n"
HEAD = "api_version: 3\nname: example\nparticipants:\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "project.yml"
    path.write_text(text)
    return path


def test_a_documented_file_is_read(tmp_path: Path):
    text = """
api_version: 3
name: example_project
description: a study
participants:
  - name: server1
    type: server
    org: nvidia
    fed_learn_port: 8002
    host_names: [fl.example.com, 10.1.2.3]
    default_host: fl.example.com
  - name: client1
    type: client
    org: hospital_a
  - name: client2
    type: client
    org: hospital_b
    connect_to: proxy.b.org:9443
  - name: lead@b.org
    type: admin
    org: hospital_b
    role: lead
launcher: docker
plugins: [local, docker]
"""
    project, warnings = read_project(written(tmp_path, text))
    assert warnings == []
    assert project == Project(
        name="example_project",
        description="a study",
        port=8002,
        launcher="docker",
        plugins=("local", "docker"),
        participants=(
            Participant(
                "server1",
                "server",
                "nvidia",
                host_names=("fl.example.com", "10.1.2.3"),
                connect_to="fl.example.com",
            ),
            Participant("client1", "site", "hospital_a"),
            Participant("client2", "site", "hospital_b", connect_to="proxy.b.org:9443"),
            Participant("lead@b.org", "user", "hospital_b", role="lead"),
        ),
    )


PROJECTS = {
    "sample": sample_project(["site-1", "site-2"]),
    "no sites": sample_project([]),
    "docker": sample_project(["a"], name="other", port=9000, launcher="docker"),
    "addresses": Project(
        name="p",
        description="yes: 012 # ünïcode",
        authority="mine",
        plugins=(),
        port=1234,
        participants=(
            Participant("10.0.0.1", "server", "o", host_names=("::1", "a.b"), connect_to="[fe80::2]:99"),
            Participant("no", "site", "012", connect_to="[::1]"),
            Participant("1e3", "site", "null", connect_to="host:1"),
            Participant("x@y", "user", "on", role="member", connect_to="10.9.8.7"),
        ),
    ),
    "own host": Project(name="p", participants=(Participant("s.org", "server", "o"),)),
    "IPv6 host": Project(name="p", participants=(Participant("s", "server", "o", connect_to="[::1]"),)),
}


@pytest.mark.parametrize("name", PROJECTS)
def test_a_written_project_reads_the_same_again(tmp_path: Path, name: str):
    path = tmp_path / "deep" / "project.yml"
    write_project(PROJECTS[name], path)
    assert read_project(path) == (PROJECTS[name], [])
    assert [one.name for one in path.parent.iterdir()] == ["project.yml"]


def test_the_sample_is_the_documented_one():
    project = sample_project(["site-1"])
    assert (project.name, project.port, project.server.name) == ("example_project", 8002, "server")
    assert [(one.name, one.role) for one in project.users] == [
        ("admin@nvidia.com", "project_admin"),
        ("org-admin@nvidia.com", "org_admin"),
        ("lead@nvidia.com", "lead"),
    ]
    assert {one.org for one in project.participants} == {"nvidia"}


WARNED = {
    "builders": (HEAD + SERVER + "builders: [{path: x}]\n", "builders: has no effect"),
    "packager": (HEAD + SERVER + "packager: {path: x}\n", "packager: has no effect"),
    "overseer": (HEAD + SERVER + "  - {name: o, type: overseer, org: nvidia}\n", "overseer has no effect"),
    "admin port": (
        HEAD + "  - {name: s, type: server, org: n, admin_port: 8003}\n",
        "participants[0].admin_port: has no effect: sites and users share one port",
    ),
    "capacity": (HEAD + SERVER + "  - {name: a, type: client, org: n, capacity: {num_of_gpus: 1}}\n", "capacity"),
    "long name": (HEAD.replace("example", "x" * 70) + SERVER, "longer than 63 characters and was cut"),
    "dict address": (
        HEAD + SERVER + "  - {name: a, type: client, org: n, connect_to: {name: r, host: h, port: 1}}\n",
        "participants[1].connect_to.name: has no effect",
    ),
}


@pytest.mark.parametrize("name", WARNED)
def test_what_has_no_effect_here_is_named(tmp_path: Path, name: str):
    text, says = WARNED[name]
    _, warnings = read_project(written(tmp_path, text))
    assert len(warnings) == 1
    assert says in warnings[0]


def one(entry: str) -> str:
    return HEAD + SERVER + f"  - {{{entry}}}\n"


REFUSED = {
    "empty": ("", "the file is empty"),
    "comments only": ("# nothing\n", "the file is empty"),
    "a list": ("- a\n", "wanted are keys and values"),
    "not yaml": ("a: [b\n", "line 2"),
    "unknown key": (HEAD + SERVER + "lancher: local\n", "lancher: no such setting"),
    "unknown key of a person": (one("name: a, type: client, org: n, orgg: n"), "participants[1].orgg: no such setting"),
    "key twice": ("name: a\nname: b\n", "given twice"),
    "role twice": (one("name: a@b, type: admin, org: n, role: lead, role: project_admin"), "'role' is given twice"),
    "alias": ("a: &x [1]\nb: *x\n", "aliases are not allowed"),
    "tag": ("name: !!python/object/apply:os.system [ls]\n", "python/object"),
    "deep": ("a: " + "[" * 5000, "project.yml"),
    "include": (HEAD + SERVER + "include: other.yml\n", "include: not possible here"),
    "edge": (HEAD + SERVER + "edge: {}\n", "edge: not possible here"),
    "no version": (HEAD.replace("api_version: 3\n", "") + SERVER, "api_version: wanted is 3 or 4, not None"),
    "version as text": (HEAD.replace("3", "'3'") + SERVER, "api_version: wanted is 3 or 4, not '3'"),
    "version 2": (HEAD.replace("3", "2") + SERVER, "api_version: wanted is 3 or 4, not 2"),
    "name no": (HEAD.replace("example", "no") + SERVER, "name: False is not text"),
    "name missing": (HEAD.replace("name: example\n", "") + SERVER, "name: is missing"),
    "name blank": (HEAD.replace("example", "' '") + SERVER, "name: is blank"),
    "name path": (HEAD.replace("example", "../x") + SERVER, "name: '../x' is not a name of a project"),
    "name hidden": (HEAD.replace("example", ".x") + SERVER, "is not a name of a project"),
    "participants missing": ("api_version: 3\nname: a\n", "participants: wanted is a list"),
    "participants empty": ("api_version: 3\nname: a\nparticipants: []\n", "participants: wanted is a list"),
    "participant text": (HEAD + "  - server\n", "participants[0]: wanted are keys and values"),
    "no server": (HEAD + "  - {name: a, type: client, org: n}\n", "one server is wanted, there is none"),
    "two servers": (one("name: b, type: server, org: n"), "one server is wanted, there are 2: server1, b"),
    "relay": (one("name: r, type: relay, org: n"), "participants[1]: there are no relays"),
    "unknown type": (one("name: a, type: cliet, org: n"), "participants[1].type: 'cliet' is no type"),
    "type missing": (one("name: a, org: n"), "participants[1].type: is missing"),
    "org missing": (one("name: a, type: client"), "participants[1].org: is missing"),
    "org number": (one("name: a, type: client, org: 12"), "participants[1].org: 12 is not text"),
    "org date": (one("name: a, type: client, org: 2020-01-01"), "participants[1].org: datetime.date"),
    "org odd": (one("name: a, type: client, org: 'a/b'"), "participants[1].org: 'a/b' is not a name of a org"),
    "site as path": (one("name: ../../etc, type: client, org: n"), "participants[1].name: '../../etc'"),
    "site blank": (one("name: '', type: client, org: n"), "participants[1].name: is blank"),
    "site too long": (one(f"name: {'x' * 300}, type: client, org: n"), "participants[1].name: 'xxx"),
    "site emoji": (one("name: 🙂, type: client, org: n"), "participants[1].name: '🙂'"),
    "site with minus": (one("name: -a, type: client, org: n"), "participants[1].name: '-a'"),
    "site with newline": (one('name: "a\\n", type: client, org: n'), "participants[1].name"),
    "site bool": (one("name: yes, type: client, org: n"), "participants[1].name: True is not text"),
    "site server": (one("name: Server, type: client, org: n"), "'Server' is a reserved name"),
    "site all": (one("name: ALL, type: client, org: n"), "'ALL' is a reserved name"),
    "site admin": (one("name: admin, type: client, org: n"), "'admin' is a reserved name"),
    "site star": (one("name: '*', type: client, org: n"), "'*' is not a name of a site"),
    "site at": (one("name: '@ALL', type: client, org: n"), "'@ALL' is not a name of a site"),
    "site twice": (one("name: a, type: client, org: n}\n  - {name: a, type: client, org: n"), "'a' is there twice"),
    "site in capitals": (
        one("name: a, type: client, org: n}\n  - {name: A, type: client, org: n"),
        "participants[2].name: 'A' is there beside 'a': they differ only in case",
    ),
    "site like server": (one("name: SERVER1, type: client, org: n"), "beside 'server1'"),
    "server odd": (HEAD + "  - {name: a_b, type: server, org: n}\n", "'a_b' is not a name of a server"),
    "user no mail": (one("name: lead, type: admin, org: n, role: lead"), "'lead' is not a name of a user"),
    "role missing": (one("name: a@b.c, type: admin, org: n"), "participants[1].role: is missing"),
    "role unknown": (one("name: a@b.c, type: admin, org: n, role: leed"), "participants[1].role: 'leed' is not a role"),
    "role of site": (one("name: a, type: client, org: n, role: lead"), "participants[1].role: no such setting"),
    "port 0": (HEAD + "  - {name: s, type: server, org: n, fed_learn_port: 0}\n", "fed_learn_port: 0 is not a port"),
    "port 70000": (HEAD + "  - {name: s, type: server, org: n, fed_learn_port: 70000}\n", "70000 is not a port"),
    "port text": (HEAD + "  - {name: s, type: server, org: n, fed_learn_port: '1'}\n", "'1' is not a port"),
    "port bool": (HEAD + "  - {name: s, type: server, org: n, fed_learn_port: yes}\n", "True is not a port"),
    "host 0.0.0.0": (HEAD + "  - {name: s, type: server, org: n, default_host: 0.0.0.0}\n", "where a server listens"),
    "host url": (HEAD + "  - {name: s, type: server, org: n, default_host: 'https://u:p@h'}\n", "is not a host name"),
    "host names text": (HEAD + "  - {name: s, type: server, org: n, host_names: a}\n", "wanted is a list of texts"),
    "IPv6 without brackets": (one("name: a, type: client, org: n, connect_to: 'fe80::1:8002'"), "needs brackets"),
    "address with scheme": (
        one("name: a, type: client, org: n, connect_to: 'grpcs://h:1'"),
        "is not host or host:port",
    ),
    "address port": (one("name: a, type: client, org: n, connect_to: 'h:70000'"), "70000 is not a port"),
    "plugins text": (HEAD + SERVER + "plugins: local\n", "plugins: wanted is a list of texts"),
    "plugin path": (HEAD + SERVER + "plugins: [local, ../x]\n", "plugins[1]: '../x' is not a name"),
    "launcher blank": (HEAD + SERVER + "launcher: ''\n", "launcher: '' is not a name"),
    "launcher number": (HEAD + SERVER + "launcher: 1\n", "launcher: 1 is not text"),
}


@pytest.mark.row("G2", "G9", "G10", "G11", "G12")
@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_file_is_refused_with_file_and_key(tmp_path: Path, name: str):
    text, says = REFUSED[name]
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_project(path)
    assert says in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.exit_status == 4


@pytest.mark.row("G2")
@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (HEAD + SERVER + "lancher: local\n", "did you mean 'launcher'?"),
        (one("name: a, type: cliet, org: n"), "did you mean 'client'?"),
        (one("name: a@b.c, type: admin, org: n, role: leed"), "did you mean 'lead'?"),
    ],
)
def test_a_misspelt_word_gets_a_suggestion(tmp_path: Path, text: str, hint: str):
    with pytest.raises(ConfigError) as caught:
        read_project(written(tmp_path, text))
    assert caught.value.hint == hint


@pytest.mark.row("G1")
@pytest.mark.parametrize("content", ["\ufeff" + HEAD + SERVER, (HEAD + SERVER).replace("\n", "\r\n")])
def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path, content: str):
    path = tmp_path / "project.yml"
    path.write_bytes(content.encode())
    assert read_project(path)[0].port == 8102


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"none\.yml: no such file"):
        read_project(tmp_path / "none.yml")


def test_a_wrong_project_is_not_written(tmp_path: Path):
    project = attrs.evolve(sample_project(["a"]), port=0)
    with pytest.raises(ConfigError):
        write_project(project, tmp_path / "project.yml")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.row("G10")
@pytest.mark.parametrize("sites", [["server"], ["a", "A"], ["a b"], ["all"]])
def test_a_sample_with_unusable_sites_is_refused(sites: list[str]):
    with pytest.raises(ConfigError):
        sample_project(sites)
