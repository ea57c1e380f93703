"""What every command line does, seen from outside."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys

import pytest

from flpoc import __version__

RUN = "import sys; from flpoc.cli.main import main; sys.exit(main())"
BANNED = ("grpc", "numpy", "pyhocon", "cryptography", "yaml", "rich", "msgspec", "torch", "tensorflow")

COMMANDS = """
    import os, sys, time
    import click
    from flpoc import hookimpl
    from flpoc.cli.command import Command, Record
    from flpoc.cli.options import option
    from flpoc.errors import JobError
    from flpoc.formatting import Report

    FLPOC_API = 1
    FACTS = {"examples": (), "mutating": False, "idempotent": True}

    @click.command("hello", cls=Command, **FACTS)
    @click.argument("name", required=False)
    def hello(name):
        "Greet somebody."
        print("printed by the way")
        return Report(data={"name": name, "password": "hunter2"}, text=(f"hello {name}",), warnings=("mind the gap",))

    @click.command("fail", cls=Command, **FACTS)
    @click.option("-debug", "--debug", is_flag=True)
    @click.option("--how", default="job")
    def fail(debug, how):
        if how == "job":
            raise JobError("no job 'x'", code="JOB_NOT_FOUND", data={"study": "default"})
        if how == "time":
            raise TimeoutError("waited long")
        raise ValueError("a defect with api_key=abc123")

    @click.command("count", cls=Command, streaming=True, **FACTS)
    def count():
        for number in range(2):
            yield Record({"event": "progress", "number": number, "terminal": False}, f"number {number}")
        return Report(data={"total": 2}, text=("counted",))

    @click.command("many", cls=Command, **FACTS)
    def many():
        return Report(data=None, text=["x" * 100] * 100000)

    @click.command("hang", cls=Command, **FACTS)
    def hang():
        print("hanging", file=sys.stderr, flush=True)
        for _ in range(600):  # of a signal that comes just before a sleep begins is heard when it ends
            time.sleep(0.1)

    @click.command("ask", cls=Command, **FACTS)
    @click.option("--force", is_flag=True)
    @click.pass_obj
    def ask(call, force):
        return Report(data=None, text=("done" if call.confirm("Remove it?", force=force) else "left as it is",))

    @hookimpl
    def flpoc_commands():
        return (hello, fail, count, many, hang, ask)

    @hookimpl
    def flpoc_error_hint(error):
        return "ask the plugin" if isinstance(error, JobError) else None
"""


@pytest.fixture
def commands(install):
    install("acme", COMMANDS)


def envelope(done):
    lines = done.stdout.splitlines()
    assert len(lines) == 1, done
    return json.loads(lines[0])


def test_help_lists_the_groups_of_core_and_the_commands_of_plugins(flpoc, commands):
    done = flpoc("--help")
    assert done.returncode == 0
    for name in ("poc", "job", "plugins", "version", "hello"):
        assert f"\n  {name} " in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["plugins", "-h"], ["version", "-h"]])
def test_help_imports_nothing_heavy(environment, words):
    code = "import sys; from flpoc.cli.main import main; main(sys.argv[1:]); print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    loaded = {line.partition(".")[0] for line in done.stdout.splitlines()}
    assert loaded.isdisjoint(BANNED), loaded.intersection(BANNED)


def test_an_answer_in_json_is_one_envelope_and_nothing_else(flpoc, commands):
    done = flpoc("hello", "Ann", "--format", "json")
    assert envelope(done) == {
        "schema_version": "1",
        "status": "ok",
        "exit_code": 0,
        "data": {"name": "Ann", "password": "<redacted>"},
    }
    assert "printed by the way" in done.stderr
    assert "mind the gap" in done.stderr


def test_text_goes_to_standard_output_and_warnings_to_standard_error(flpoc, commands):
    done = flpoc("hello", "Ann")
    assert done.stdout == "printed by the way\nhello Ann\n"
    assert done.stderr == "mind the gap\n"


@pytest.mark.parametrize(
    "words",
    [
        ["--format", "json", "hello", "Ann"],
        ["hello", "--format", "json", "Ann"],
        ["hello", "Ann", "--format=json"],
        ["hello", "--connect-timeout", "2", "Ann", "--format", "json"],
        ["hello", "--connect_timeout=2", "Ann", "--format", "json"],
    ],
)
def test_global_options_may_stand_anywhere(flpoc, commands, words):
    assert envelope(flpoc(*words))["data"]["name"] == "Ann"


def test_after_two_dashes_nothing_is_an_option(flpoc, commands):
    done = flpoc("hello", "--", "--format")
    assert done.returncode == 0
    assert "hello --format" in done.stdout


def test_an_error_in_text_is_three_lines_on_standard_error(flpoc, commands):
    done = flpoc("fail")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "no job 'x'\nHint: ask the plugin\nCode: JOB_NOT_FOUND (exit 1)\n"


def test_an_error_in_json_is_an_envelope_on_standard_output(flpoc, commands):
    done = flpoc("fail", "--format", "json")
    assert done.returncode == 1
    assert envelope(done) == {
        "schema_version": "1",
        "status": "error",
        "exit_code": 1,
        "error_code": "JOB_NOT_FOUND",
        "message": "no job 'x'",
        "hint": "ask the plugin",
        "data": {"study": "default"},
    }
    assert done.stderr == ""


def test_a_defect_is_an_internal_error_without_a_traceback_or_a_secret(flpoc, commands):
    done = flpoc("fail", "--how", "defect")
    assert done.returncode == 5
    assert "Code: INTERNAL_ERROR (exit 5)" in done.stderr
    assert "Traceback" not in done.stderr
    assert "abc123" not in done.stderr


@pytest.mark.parametrize("flag", ["--debug", "-debug"])
def test_debug_shows_the_traceback_of_a_defect(flpoc, commands, flag):
    done = flpoc("fail", "--how", "defect", flag)
    assert "Traceback" in done.stderr
    assert "abc123" not in done.stderr


def test_a_time_out_of_python_is_exit_3(flpoc, commands):
    assert flpoc("fail", "--how", "time").returncode == 3


@pytest.mark.row("C1", "D15")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["plgins"], "flpoc has no command 'plgins'"),
        (["plugins", "lst"], "flpoc plugins has no command 'lst'"),
    ],
)
def test_an_unknown_command_is_named_and_the_right_one_suggested(flpoc, words, says):
    done = flpoc(*words)
    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr.startswith("Usage: flpoc")
    assert says in done.stderr
    assert "did you mean" in done.stderr
    assert done.stderr.endswith("Code: INVALID_ARGS (exit 4)\n")


@pytest.mark.parametrize(
    ("words", "right"),
    [
        (["job", "submit", "my job"], "flpoc job submit -j 'my job'"),
        (["job", "create", "line"], "flpoc job create -j line"),
        (["job", "list", "line"], None),
    ],
)
def test_who_names_a_folder_without_its_option_is_told_how(flpoc, words, right):
    done = flpoc(*words)
    assert done.returncode == 4
    assert done.stderr.count("a job's folder is named with -j") == (right is not None)
    assert right is None or f"`{right}`" in done.stderr


@pytest.mark.row("C1")
def test_a_usage_error_in_json_has_the_usage_and_the_sub_commands(flpoc):
    done = flpoc("plugins", "lst", "--format", "json")
    assert done.returncode == 4
    said = envelope(done)
    assert said["error_code"] == "INVALID_ARGS"
    assert said["exit_code"] == 4
    assert said["data"]["usage"].startswith("flpoc plugins")
    assert {"list", "show"} <= set(said["data"]["choices"])
    assert said["data"]["choices"] == sorted(said["data"]["choices"])


@pytest.mark.row("C1")
@pytest.mark.parametrize("words", [[], ["plugins"]])
def test_a_group_without_a_sub_command_is_a_usage_error(flpoc, words):
    done = flpoc(*words)
    assert done.returncode == 4
    assert "a sub-command is missing" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["hello", "--frce"],
        ["hello", "-xyz"],
        ["plugins", "show"],
        ["hello", "--format"],
        ["hello", "--format", "txt", "--format", "json"],
        ["hello", "--connect-timeout", "nan"],
        ["hello", "--connect-timeout", "0"],
    ],
)
def test_wrong_words_are_exit_4(flpoc, commands, words):
    done = flpoc(*words)
    assert done.returncode == 4, done
    assert "Code: INVALID_ARGS (exit 4)" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.row("D15")
def test_an_unknown_format_is_said_to_people_and_to_programs(flpoc, commands):
    done = flpoc("hello", "--format", "jsn")
    assert done.returncode == 4
    said = envelope(done)
    assert (said["error_code"], said["exit_code"]) == ("INVALID_ARGS", 4)
    assert "'jsn'" in done.stderr
    assert "did you mean 'json'" in done.stderr
    assert "hello" not in done.stdout


def test_jsonl_is_refused_by_a_command_that_does_not_stream(flpoc, commands):
    done = flpoc("hello", "--format", "jsonl")
    assert done.returncode == 4
    said = envelope(done)
    assert said["error_code"] == "INVALID_ARGS"
    assert "terminal" not in said


def test_a_stream_in_jsonl_is_one_object_a_line_and_the_last_is_terminal(flpoc, commands):
    records = [json.loads(line) for line in flpoc("count", "--format", "jsonl").stdout.splitlines()]
    assert [record["terminal"] for record in records] == [False, False, True]
    assert records[-1]["total"] == 2
    assert all(record["schema_version"] == "1" for record in records)


def test_a_stream_in_text_says_each_step(flpoc, commands):
    assert flpoc("count").stdout == "number 0\nnumber 1\ncounted\n"


def test_a_stream_in_json_is_one_document_and_its_steps_go_to_standard_error(flpoc, commands):
    done = flpoc("count", "--format", "json")
    assert envelope(done)["data"] == {"total": 2}
    assert done.stderr == "number 0\nnumber 1\n"


@pytest.mark.row("C12")
def test_a_reader_that_goes_away_causes_no_noise(environment, commands):
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, "many"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with run:
        run.stdout.readline()
        run.stdout.close()
        said = run.stderr.read()
    assert said == b""
    assert run.returncode == 141


@pytest.mark.row("C11")
def test_an_interrupt_is_exit_130_without_a_traceback(environment, commands):
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, "hang"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with run:
        assert run.stderr.readline() == "hanging\n"
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=60)
    assert run.returncode == 130
    assert out == ""
    assert "Traceback" not in err


@pytest.mark.row("C12")
def test_a_full_disk_behind_standard_output_is_an_error(environment, commands):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-c", RUN, "many"],
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.row("C12")
@pytest.mark.parametrize(("words", "stream"), [(("fail",), "stderr"), (("fail", "--format", "json"), "stdout")])
def test_an_error_that_cannot_be_written_keeps_its_exit_status(environment, commands, words, stream):
    with open("/dev/full", "w", encoding="utf-8") as full:
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: full}
        done = subprocess.run([sys.executable, "-c", RUN, *words], env=environment, timeout=60, check=False, **streams)
    assert done.returncode == 1


def test_nobody_is_told_to_write_what_was_written(flpoc):
    done = flpoc("plugins", "list", "--version")
    assert done.returncode == 4
    assert "No such option '--version'.\nHint: see `flpoc plugins list -h`" in done.stderr


@pytest.mark.parametrize("words", [["plugins", "list"], ["--help"], ["plgins"]])
def test_no_colour_codes_are_written_into_a_pipe(flpoc, words):
    done = flpoc(*words, TERM="xterm-256color")
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.row("C12")
def test_names_survive_a_locale_without_letters(flpoc, commands):
    more = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    assert flpoc("hello", "Zoë", **more).returncode == 0
    assert envelope(flpoc("hello", "Zoë", "--format", "json", PYTHONIOENCODING="ascii"))["data"]["name"] == "Zoë"


@pytest.mark.row("C12")
def test_a_terminal_of_20_columns_gets_a_value_a_line(environment):
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", RUN, "plugins", "list"],
            env={**environment, "COLUMNS": "20", "TERM": "dumb"},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
        said = os.read(ours, 1 << 16)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0
    assert said.startswith(b"name: core\r\nversion: ")
    assert b"\x1b" not in said


def test_what_is_said_by_the_way_cannot_steer_a_terminal(flpoc, install):
    install("acme", COMMANDS.replace("mind the gap", "mind \\x1b[2J"))
    assert "\x1b" not in flpoc("hello").stderr


@pytest.mark.row("C12")
def test_nobody_is_asked_without_a_terminal(flpoc, commands):
    done = flpoc("ask")
    assert done.returncode == 4
    assert "--force" in done.stderr
    assert flpoc("ask", "--force").stdout == "done\n"


@pytest.mark.parametrize(
    ("answer", "result"),
    [(b"y\n", b"done"), (b"Y\n", b"done"), (b"n\n", b"left"), (b"yes\n", b"left"), (b"\n", b"left")],
)
def test_only_y_is_yes(environment, commands, answer, result):
    ours, theirs = pty.openpty()
    try:
        run = subprocess.Popen(
            [sys.executable, "-c", RUN, "ask"],
            env=environment,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        os.write(ours, answer)
        out, err = run.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert run.returncode == 0
    assert err == b"Remove it? [y/N] "
    assert out.startswith(result)


@pytest.mark.parametrize("words", [["--version"], ["-V"], ["version"], ["-V", "job"]])
def test_the_version_is_printed(flpoc, words):
    assert flpoc(*words).stdout == f"flpoc {__version__}\n"


def test_underscores_and_dashes_are_the_same_in_names_of_commands(flpoc, install):
    install("acme", COMMANDS.replace('"hello"', '"say-hello"'))
    assert "hello Ann" in flpoc("say_hello", "Ann").stdout
