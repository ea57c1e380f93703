"""Completion in the shells themselves, as somebody types."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flpoc.cli.shells import SCRIPTS
from flpoc.configuration import Configuration

#: Prints the line as it has become, when the key is pressed.
RC = {
    "bash": """
        PS1='> '
        bind 'set bell-style none'
        said() { printf '\\nLINE[%s]\\n' "$READLINE_LINE"; }
        bind -x '"\\C-g": said'
        source <(flpoc completion bash)
    """,
    "zsh": """
        PS1='> '
        setopt no_beep
        autoload -Uz compinit && compinit -u -d "$HOME/dump"
        said() { print -r -- $'\\n'"LINE[$BUFFER]" }
        zle -N said
        bindkey '^G' said
        source <(flpoc completion zsh)
    """,
}


def there(shell: str) -> str:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} IS NOT INSTALLED HERE: its completion is NOT TESTED (apt-get install {shell})")
    return found


@pytest.fixture
def desk(user, environment, monkeypatch) -> dict[str, str]:
    """The environment of somebody who has flpoc on the PATH, two kits, and some files."""
    programs = user / "bin"
    programs.mkdir()
    run = "import sys\nfrom flpoc.cli.main import main\nsys.exit(main())\n"
    (programs / "flpoc").write_text(f"#!{sys.executable}\n{run}", encoding="utf-8")
    (programs / "flpoc").chmod(0o755)
    here = user / "here"
    (here / "my jobs").mkdir(parents=True)
    (here / "mine.yml").touch()
    (user / "home").mkdir()
    kits = Configuration.load().with_kit("admin@nvidia.com", "/kits/admin").with_kit("lead: me", "/kits/lead")
    kits.save()
    monkeypatch.chdir(here)
    return {**environment, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "TERM": "dumb", "LC_ALL": "C.UTF-8"}


class Terminal:
    """An interactive shell, and somebody who types."""

    def __init__(self, shell: str, environment: dict[str, str], folder: Path) -> None:
        (folder / ".zshrc").write_text(RC["zsh"])
        (folder / "bashrc").write_text(RC["bash"])
        argv = {"bash": ["bash", "--rcfile", str(folder / "bashrc"), "-i"], "zsh": ["zsh", "-i"]}[shell]
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], argv, {**environment, "ZDOTDIR": str(folder)})
        self._until(r"> ")

    def line_after(self, typed: str) -> str:
        """What the line has become; it is emptied afterwards."""
        os.write(self._terminal, f"{typed}\t\x07".encode())
        found = self._until(r"LINE\[(.*?)\]\r?\n")
        os.write(self._terminal, b"\x15")
        return found

    def _until(self, pattern: str) -> str:
        said, until = "", time.monotonic() + 60
        while not (found := re.search(pattern, said, re.DOTALL)):
            assert select.select([self._terminal], [], [], max(0.0, until - time.monotonic()))[0], said
            said += os.read(self._terminal, 65536).decode(errors="replace")
        return found.group(found.lastindex or 0)

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._terminal)


@pytest.fixture(params=["bash", "zsh"])
def terminal(request, desk, user) -> Iterator[Terminal]:
    there(request.param)
    opened = Terminal(request.param, desk, user)
    yield opened
    opened.close()


def test_what_somebody_types_is_completed(terminal):
    for typed, line in {
        "flpoc pl": "flpoc plugins ",
        "flpoc poc cle": "flpoc poc clean ",
        "flpoc poc prepare --number-of": "flpoc poc prepare --number-of-clients ",
        "flpoc poc prepare --number_of": "flpoc poc prepare --number_of_clients ",
        "flpoc job monitor x --stats-target cl": "flpoc job monitor x --stats-target client ",
        "flpoc job monitor x --stats-target=cl": "flpoc job monitor x --stats-target=client ",
        "flpoc job list --format js": "flpoc job list --format json ",
        "flpoc job list --format=js": "flpoc job list --format=json ",
        "flpoc poc prepare --launcher lo": "flpoc poc prepare --launcher local ",
        "flpoc job list --kit-id adm": "flpoc job list --kit-id admin@nvidia.com ",
        "flpoc job list --kit-id admin@nv": "flpoc job list --kit-id admin@nvidia.com ",
        "flpoc job list --kit-id=admin@nv": "flpoc job list --kit-id=admin@nvidia.com ",
        "flpoc config use le": r"flpoc config use lead:\ me ",
        "flpoc poc prepare -i min": "flpoc poc prepare -i mine.yml ",
        "flpoc job submit -j m": r"flpoc job submit -j my\ jobs/",
        "flpoc job submit --job-folder=m": r"flpoc job submit --job-folder=my\ jobs/",
        "flpoc nonsense ": "flpoc nonsense ",
        "flpoc job meta ": "flpoc job meta ",
        "true; flpoc vers": "true; flpoc version ",
    }.items():
        assert terminal.line_after(typed) == line, typed


COMPREPLY = r"""
compopt() { echo "compopt $*"; }
source <(flpoc completion bash)
COMP_WORDS=("${@}")
COMP_CWORD=$(($# - 1))
_flpoc_completion flpoc
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "replies"),
    [
        (["flpoc", "job", "a"], ["abort"]),
        (["flpoc", "--format", "=", ""], ["json", "jsonl", "txt"]),
        (["flpoc", "job", "list", "--kit-id", ""], ["admin@nvidia.com", r"lead:\ me"]),
        (["flpoc", "job", "list", "--kit-id", "lead", ":", r"\ m"], [r"\ me"]),
        (["flpoc", "job", "list", "--kit-id", "admin", "@", "n"], ["@nvidia.com"]),
        (["flpoc", "job", "list", "--kit-id", "'lead: m"], ["lead: me"]),
        (["flpoc", "config", "-d", ""], ["compopt -o dirnames", ""]),
        (["flpoc", "poc", "prepare", "-i", ""], ["compopt -o default", ""]),
        (["flpoc", "job", "meta", ""], [""]),
    ],
    ids=" ".join,
)
def test_bash_gets_its_replies(desk, words, replies):
    argv = [there("bash"), "--norc", "-c", COMPREPLY, "bash", *words]
    done = subprocess.run(argv, env=desk, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == replies
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("flpoc job ab", ["abort\tEnd a job that has not ended."]),
        ("flpoc job list --sche", ["--schema\tPrint what a command takes and does as JSON, and exit"]),
        ("flpoc job monitor x --stats-target=cl", ["--stats-target=client"]),
        ("flpoc job list --kit-id admin@", ["admin@nvidia.com\t/kits/admin"]),
        ("flpoc config use 'lead: ", ["lead: me\t/kits/lead"]),
        ("flpoc poc prepare -i min", ["mine.yml"]),
        ("flpoc job submit -j m", ["my jobs/"]),
        ("flpoc job submit --job-folder=m", ["--job-folder=my jobs/"]),
        ("flpoc job meta ", []),
        ("flpoc nonsense ", []),
    ],
)
def test_fish_gets_its_suggestions(desk, line, found):
    argv = [there("fish"), "--no-config", "-c", "flpoc completion fish | source; complete -C $argv[1]", line]
    done = subprocess.run(argv, env=desk, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == found
    assert done.stderr == ""


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_shell_that_cannot_reach_flpoc_is_not_disturbed(desk, user, shell):
    """The program was removed, or fails at once: nothing is completed, and nothing is said."""
    (user / "script").write_text(SCRIPTS[shell])
    (user / "bin" / "flpoc").write_text("#!/bin/sh\necho 'no such module' >&2\nexit 1\n")
    ask = {
        "bash": f"source {user}/script; COMP_WORDS=(flpoc jo); COMP_CWORD=1; _flpoc_completion flpoc",
        "zsh": f"compdef() {{ : }}; source {user}/script; words=(flpoc jo) CURRENT=2; _flpoc flpoc || true",
        "fish": f"source {user}/script; complete -C 'flpoc jo'",
    }[shell]
    done = subprocess.run([there(shell), "-c", ask], env=desk, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("", "")
