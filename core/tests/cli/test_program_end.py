"""How the program ends: at once, but not before what is left to do is done."""

from __future__ import annotations

import subprocess
import sys

import pytest

from flpoc import __version__
from flpoc.cli.main import main

#: The program after something of its own; nothing may follow ``main()`` but the end.
PROGRAM = "import sys\n{before}\nfrom flpoc.cli.main import main\nsys.exit(main())\n"


def ends(environment, before, *words):
    argv = [sys.executable, "-c", PROGRAM.format(before=before), *words]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("words", "status"), [(("version",), 0), (("nonsense",), 4), (("--help",), 0)])
def test_the_interpreter_is_not_taken_apart_and_the_status_is_the_same(environment, words, status):
    done = ends(environment, "class Left:\n    def __del__(self): print('taken apart')\nleft = Left()", *words)
    assert done.returncode == status
    assert "taken apart" not in done.stdout


def test_what_is_registered_for_the_end_is_done_and_its_output_arrives(environment):
    done = ends(environment, "import atexit\natexit.register(print, 'last words', end='')", "version")
    assert done.stdout == f"flpoc {__version__}\nlast words"


def test_a_thread_that_works_is_waited_for(environment):
    before = "import threading, time\nthreading.Thread(target=lambda: (time.sleep(1), print('done'))).start()"
    assert ends(environment, before, "version").stdout == f"flpoc {__version__}\ndone\n"


def test_files_that_were_left_open_lose_nothing(tmp_path):
    path = tmp_path / "left"
    code = (
        f"from flpoc.ending import end, flush_files\nleft = open({str(path)!r}, 'w')\n"
        "more = left, open(left.name + '2', 'wb')\n"
        "left.write('a line')\nmore[1].write(b'bytes')\nflush_files()\nend(3)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 3
    assert path.read_text() == "a line"
    assert (tmp_path / "left2").read_bytes() == b"bytes"


def test_called_by_a_program_it_comes_back(capsys):
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"flpoc {__version__}\n"
