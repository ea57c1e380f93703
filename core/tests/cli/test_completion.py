"""What may come next on a line: commands, options, and what options take."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import click
import pytest

from flpoc.cli.call import Call
from flpoc.cli.completing import suggestions
from flpoc.cli.main import COMMANDS, main
from flpoc.cli.root import Root
from flpoc.cli.shells import SCRIPTS, read_words, unquoted
from flpoc.configuration import Configuration

#: The words of a line, the last one unfinished.
Ask = Callable[..., list[str]]


@pytest.fixture
def kits(user, monkeypatch):
    """Two registered kits, one of them with a name that shells take apart."""
    changed = Configuration.load().with_kit("admin@nvidia.com", "/kits/admin").with_kit("lead: me", "/kits/lead")
    changed.activate("admin@nvidia.com").save()


def asked(*words: str) -> list[str]:
    """Values; of what the shell finds itself, the kind in brackets."""
    call = Call()
    found = suggestions(Root(call, COMMANDS), call, words[:-1], words[-1])
    return [one.value if one.kind == "plain" else f"{one.value}<{one.kind}>" for one in found]


@pytest.mark.parametrize(
    ("line", "among"),
    [
        ("po", ["poc"]),
        ("poc st", ["start", "stop"]),
        ("poc --format json st", ["start", "stop"]),
        ("poc --format=json st", ["start", "stop"]),
        ("--connect-timeout 3 job wa", ["wait"]),
        ("config -d DIR us", ["use"]),
        ("nothing ", []),
        ("poc nothing ", []),
        ("version extra", []),
        ("recipe sh", ["show"]),
        ("recipe --format json li", ["list"]),
    ],
)
def test_commands_and_sub_commands(line, among):
    assert asked(*line.split(" ")) == among


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("poc prepare --num", ["--number-of-clients"]),
        ("poc prepare --number_", ["--number_of_clients"]),
        ("poc prepare --number-", ["--number-of-clients"]),
        ("job submit --job", ["--job-folder"]),
        ("job submit --job_", ["--job_folder"]),
        ("poc start -ex", ["-ex"]),
        ("job wait ID --time", ["--timeout"]),
        ("poc prepare --force --for", ["--format"]),
        ("poc start --no-wait -- -", []),
        ("--ver", ["--version"]),
        ("poc start --ver", []),
        ("poc start --he", ["--help"]),
    ],
)
def test_options_in_both_spellings_and_each_once(line, found):
    assert asked(*line.split(" ")) == found


def test_an_option_that_may_be_repeated_is_offered_again():
    assert asked("job", "wait", "ID", "--metric", "x", "--metr") == ["--metric"]


def test_where_only_options_can_come_they_are_offered_without_a_hyphen():
    assert {"-p", "--no-wait", "--format", "-h"} <= set(asked("poc", "start", ""))
    assert asked("job", "submit", "-j", "x", "y") == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("plugins new kit", ["kit-file"]),
        ("plugins new launcher ", []),
        ("job monitor x --stats-target ", ["server", "client", "all"]),
        ("job monitor x --stats-target=c", ["--stats-target=client"]),
        ("job monitor x --stats_target=c", ["--stats_target=client"]),
        ("job list --format ", ["json", "txt"]),
        ("job monitor x --format j", ["json", "jsonl"]),
        ("--format j", ["json", "jsonl"]),
        ("version --format=t", ["--format=txt"]),
        ("poc prepare --launcher l", ["local"]),
        ("plugins disable lo", ["local"]),
        ("job submit -j ", ["<dir>"]),
        ("job submit --job-folder=", ["--job-folder=<dir>"]),
        ("poc prepare -i ", ["<file>"]),
        ("job download x -o ", ["<dir>"]),
        ("audit verify ", ["<file>"]),
        ("job list --startup-kit ", ["<file>"]),
        ("poc prepare --force=", []),
        ("completion f", ["fish"]),
        ("recipe show fedavg-nu", ["fedavg-numpy"]),
        ("recipe list --framework nu", ["numpy"]),
        ("recipe list --filter algorithm=fedp", ["algorithm=fedprox"]),
        ("recipe export ", ["<file>"]),
        ("recipe export job.py --export-dir ", ["<dir>"]),
        ("poc start --timeout ", []),
        ("poc start --timeout --no", []),
    ],
)
def test_values(line, found):
    assert asked(*line.split(" ")) == found


def test_a_value_that_may_be_left_out_gives_way_to_options():
    assert "--force" in asked("poc", "prepare", "-i", "-")
    assert asked("poc", "prepare", "-i", "-", "x") == []


def test_kits_are_offered_where_one_is_wanted(kits):
    assert asked("job", "list", "--kit-id", "") == ["admin@nvidia.com", "lead: me"]
    assert asked("job", "list", "--kit-id=adm") == ["--kit-id=admin@nvidia.com"]
    assert asked("config", "use", "le") == ["lead: me"]
    assert asked("config", "remove", "admin@nv") == ["admin@nvidia.com"]


def test_an_option_of_several_words_takes_more_or_gives_way():
    assert asked("poc", "start", "-gpu", "0", "") == []
    assert asked("poc", "start", "-gpu", "0", "1", "--no") == ["--no-wait"]


def test_a_plugins_own_command_completes_as_click_says(install, packages, environment):
    install(
        "acme",
        """
        import click
        from flpoc import hookimpl

        FLPOC_API = 1

        @click.group()
        def acme():
            "Do what acme does."

        @acme.command()
        @click.option("--colour", type=click.Choice(["red", "green"]))
        @click.argument("name", shell_complete=lambda ctx, param, incomplete: ["ann", "bob"])
        def paint(colour, name):
            "Paint."
            print("to standard output")

        @hookimpl
        def flpoc_commands():
            import os, sys
            print("noise", file=sys.stderr)
            os.write(2, b"more noise")
            return (acme,)
        """,
    )
    for line, found in {
        "ac": ["acme"],
        "acme ": ["paint"],
        "acme paint ": ["ann", "bob"],
        "acme paint b": ["bob"],
        "acme paint --colour ": ["red", "green"],
        "acme paint --col": ["--colour"],
    }.items():
        done = through_the_variable(environment, line)
        assert [row.split("\t")[1] for row in done.stdout.splitlines()] == found, line
        assert done.stderr == ""


def through_the_variable(environment, line, shell="zsh", **more):
    words = ["flpoc", *line.split(" ")]
    asks = {"_FLPOC_COMPLETE": f"{shell}_complete", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    return subprocess.run(
        [sys.executable, "-c", "import sys; from flpoc.cli.main import main; sys.exit(main())"],
        env={**environment, **asks, **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "line", ["job meta ", "job list --kit-id ", "config use ", "poc start -p ", "--format ", "poc prepare --launcher "]
)
def test_a_shell_hears_nothing_of_what_is_wrong(environment, user, line):
    """A configuration that cannot be read, a kit that is not there, a workspace that is none."""
    assert through_the_variable(environment, line).stderr == ""
    (user / "config.conf").write_text('{"startup_kits": {"active": "x", "entries": {"x": "/nowhere"}}}')
    done = through_the_variable(environment, line)
    assert done.stderr == ""
    assert line == "job meta " or "Traceback" not in done.stdout
    (user / "config.conf").write_text("{{{ no configuration")
    done = through_the_variable(environment, line)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize(
    "more",
    [{"COMP_CWORD": "x"}, {"COMP_CWORD": "-1"}, {"COMP_CWORD": "99"}, {"COMP_WORDS": ""}, {"COMP_WORDS": "\0x"[1:]}],
)
def test_nonsense_of_a_shell_is_answered_with_silence(environment, more):
    done = through_the_variable(environment, "poc ", **more)
    assert done.stderr == ""
    assert "Traceback" not in done.stdout


def test_asking_for_another_shell_does_nothing(environment):
    for asked_for in ("tcsh_source", "bash_dance", "x"):
        done = through_the_variable(environment, "poc", _FLPOC_COMPLETE=asked_for)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_nothing_heavy_is_imported(environment, kits):
    code = (
        "import sys; from flpoc.cli.main import main; main([]);"
        "print([m for m in ('grpc', 'cryptography', 'numpy', 'pyhocon', 'yaml', 'rich') if m in sys.modules])"
    )
    for line in ("", "job list --kit-id ", "poc prepare --launcher ", "--format "):
        words = ["flpoc", *line.split(" ")]
        asks = {"_FLPOC_COMPLETE": "bash_complete", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
        done = subprocess.run(
            [sys.executable, "-c", code], env={**environment, **asks}, capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "[]", line
        assert len(done.stdout.splitlines()) > 1


# -- with a server


@pytest.fixture
def patient(monkeypatch):
    """A user who waits: half a second is not always enough on a busy machine."""
    monkeypatch.setattr("flpoc.cli.suggest.PATIENCE", 60.0)


@pytest.fixture
def use(deployment, monkeypatch, patient):
    monkeypatch.setenv("FLPOC_STARTUP_KIT_DIR", str(deployment.kit()))


def test_jobs_of_a_server_that_answers(use, finished):
    assert finished in asked("job", "meta", "")
    assert asked("job", "download", finished[:13]) == [finished]
    assert asked("job", "list", "--id", finished[:13]) == [finished]
    assert all(one.startswith("-") for one in asked("job", "meta", finished, ""))


def test_sites_of_a_server_that_answers(use):
    assert {"server", "all", "site-1", "site-2"} == set(asked("job", "logs", "ID", "--site", ""))


def test_studies_of_a_server_that_answers(use):
    assert "default" in asked("job", "list", "--study", "")
    assert "default" in asked("study", "show", "")


def test_targets_sites_and_levels_of_system_commands(use):
    assert asked("system", "restart", "") == ["server", "client", "all"]
    assert asked("system", "restart", "client", "site-1", "") == ["site-1", "site-2"]
    assert asked("system", "disable-client", "si") == ["site-1", "site-2"]
    assert asked("system", "log-config", "D") == ["DEBUG"]
    assert asked("job", "log-config", "ID", "INFO", "--site", "s") == ["server", "site-1", "site-2"]


def test_the_kit_and_the_study_on_the_line_are_asked(deployment, finished, kits, patient):
    assert finished in asked("job", "meta", "--startup-kit", str(deployment.kit()), "")
    assert asked("job", "meta", "--startup-kit", str(deployment.kit()), "--study", "empty", "") == []


def test_a_server_that_does_not_answer_is_not_waited_for(environment, deployment, tmp_path, monkeypatch):
    import shutil

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        kit = shutil.copytree(deployment.kit(), tmp_path / "kit")
        (kit / "local").mkdir(exist_ok=True)
        (kit / "local" / "connect.json").write_text(json.dumps({"host": "localhost", "port": silent.getsockname()[1]}))
        done = through_the_variable(environment, "job meta ", FLPOC_STARTUP_KIT_DIR=str(kit))
        assert (done.stdout, done.stderr) == ("", "")
        # how long it takes is looked at here: the start of a process takes long enough on a busy machine
        monkeypatch.setenv("FLPOC_STARTUP_KIT_DIR", str(kit))
        for _ in range(2):  # the first time, modules are imported
            begun = time.monotonic()
            assert asked("job", "meta", "") == []
        assert time.monotonic() - begun < 4  # half a second; commands try for five


# -- the words of a shell


@pytest.mark.parametrize(
    ("typed", "words", "kept"),
    [
        (["flpoc", "po"], ["flpoc", "po"], ""),
        (["flpoc", ""], ["flpoc", ""], ""),
        (["flpoc", "--format", "=", "js"], ["flpoc", "--format=js"], "--format="),
        (["flpoc", "--format", "="], ["flpoc", "--format="], "--format="),
        (["flpoc", "--kit-id", "admin", "@", "nv"], ["flpoc", "--kit-id", "admin@nv"], "admin"),
        (["flpoc", "--kit-id", "=", "admin", "@", "nv"], ["flpoc", "--kit-id=admin@nv"], "--kit-id=admin"),
        (["flpoc", "a", ":", "b", "c"], ["flpoc", "a:b", "c"], ""),
        (["flpoc", '"admin@nv'], ["flpoc", "admin@nv"], ""),
        (["flpoc", "lead\\:\\ m"], ["flpoc", "lead: m"], ""),
    ],
)
def test_bash_words_are_put_together_again(typed, words, kept):
    assert read_words(typed, len(typed) - 1, " \t\n\"'@><=;|&(:") == (words, kept)


def test_words_after_the_unfinished_one_do_not_count():
    assert read_words(["flpoc", "po", "start"], 1) == (["flpoc", "po"], "")


@pytest.mark.parametrize(
    ("word", "found"),
    [("plain", "plain"), ("'a b'", "a b"), ("'a b", "a b"), ('"a\\"b', 'a"b'), ("a\\", "a"), ("a\\ b", "a b")],
)
def test_quotation_marks_are_not_part_of_a_word(word, found):
    assert unquoted(word) == found


# -- the command


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_command_prints_the_script(capsys, monkeypatch, shell):
    assert main(["completion", shell]) == 0
    said = capsys.readouterr().out
    assert said == SCRIPTS[shell]
    monkeypatch.setenv("_FLPOC_COMPLETE", f"{shell}_source")
    assert main([]) == 0
    assert capsys.readouterr().out == said


def test_the_shell_is_that_of_the_user(capsys, monkeypatch):
    monkeypatch.setenv("SHELL", "/usr/bin/zsh")
    assert main(["completion", "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert (data["shell"], data["script"]) == ("zsh", SCRIPTS["zsh"])
    for shell in ("/bin/tcsh", ""):
        monkeypatch.setenv("SHELL", shell)
        assert main(["completion"]) == 4
        said = capsys.readouterr()
        assert said.out == ""
        assert "bash|zsh|fish" in said.err


def test_a_plain_click_group_is_walked_too():
    group = click.Group("g", commands={"one": click.Command("one", help="One. And more.")})
    assert [(one.value, one.about) for one in suggestions(group, Call(), [], "o")] == [("one", "One.")]
