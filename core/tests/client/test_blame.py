"""The first cause of a failed script can always be said and sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from flpoc.client.blame import blame
from flpoc.wire.codec import encode
from flpoc.wire.trainer_messages import FROM_TRAINER


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"), Silent(), SyntaxError(), SyntaxError(None), ModuleNotFoundError(),
        OSError(2, "gone", "f\udcff"),
        ValueError("\ud800" * 5000), KeyError(b"\xff"), SystemExit(3), KeyboardInterrupt(),
    ],
)  # fmt: skip
def test_every_exception_can_be_sent(error: BaseException) -> None:
    failed = blame(raised(error), round_number=0, phase="training")
    assert FROM_TRAINER.decode(encode(failed)) == failed
    assert failed.exception == type(error).__name__


def test_the_innermost_line_of_the_jobs_own_code_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLPOC_CODE", str(tmp_path))
    (tmp_path / "t.py").write_text("import json\n\ndef f():\n    json.loads('{')\n")
    scope: dict = {}
    exec(compile((tmp_path / "t.py").read_text(), str(tmp_path / "t.py"), "exec"), scope)
    try:
        scope["f"]()
    except ValueError as error:
        failed = blame(error, round_number=None, phase="p")
    assert (failed.exception, failed.file, failed.line) == ("JSONDecodeError", "t.py", 4)


def test_a_missing_module_says_what_to_install() -> None:
    assert blame(ModuleNotFoundError("m", name="torch"), round_number=0, phase="p").hint == (
        "install 'torch' where the script runs"
    )


HOOKS = """
from flpoc import hookimpl
FLPOC_API = 1
@hookimpl
def flpoc_error_hint(error):
    if isinstance(error, PermissionError):
        return "ask for it"
    if isinstance(error, KeyError):
        raise RuntimeError("no idea")
"""


def test_plugins_of_the_kit_are_asked_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "knows_denials").mkdir()
    (tmp_path / "knows_denials" / "hooks.py").write_text(HOOKS)
    monkeypatch.syspath_prepend(tmp_path)
    kit = ("knows_denials.hooks",)

    def hint(error: BaseException) -> str:
        return blame(raised(error), round_number=0, phase="training", plugins=kit).hint

    assert hint(PermissionError(13, "denied")) == "ask for it"
    assert hint(KeyError("x")) == ""
    assert hint(ModuleNotFoundError("m", name="torch")) == "install 'torch' where the script runs"
