"""What plugins find in a project decides before anything is written."""

from __future__ import annotations

import textwrap

import pytest

CHECK = """
    from flpoc import hookimpl
    from flpoc.provisioning import Check

    FLPOC_API = 1

    @hookimpl
    def flpoc_checks(project):
        {does}
"""
OK = 'yield Check("sites", "ok", f"{len(project.sites)} sites")'
WARNING = 'yield Check("names", "warning", "rather plain")'
ERROR = 'yield Check("port", "error", f"{project.port} is not allowed here")'


@pytest.fixture
def prepare(place, tmp_path):
    """Run `flpoc poc prepare` with private plugins whose checks do this."""

    def run(*bodies: str, text: bool = False):
        packages = tmp_path / "packages"
        packages.mkdir(exist_ok=True)
        names = [f"acme_{number}" for number in range(len(bodies))]
        for name, body in zip(names, bodies, strict=True):
            source = textwrap.dedent(CHECK).format(does=body.replace("\n", "\n    "))
            (packages / f"{name}.py").write_text(source)
        (tmp_path / "config.conf").write_text(f"plugins.load = [{', '.join(names)}]")
        return place.run(
            "prepare", text=text, PYTHONPATH=str(packages), FLPOC_CONFIG=str(tmp_path / "config.conf")
        )

    return run


def test_findings_are_in_the_report_and_warnings_are_said(prepare):
    answer = prepare(f"{OK}\n{WARNING}")
    assert answer.data["checks"] == [
        {"component": "sites", "status": "ok", "details": "2 sites"},
        {"component": "names", "status": "warning", "details": "rather plain"},
    ]
    assert "names: rather plain" in answer.err
    assert "2 sites" not in answer.err


def test_an_error_refuses_with_all_findings_and_leaves_nothing(prepare, place):
    answer = prepare(f"{OK}\n{ERROR}", ERROR.replace("port", "gate", 1))
    assert answer.error == ("INVALID_CONFIG", 4)
    assert "port: 8002 is not allowed here" in answer.document["message"]
    assert "gate: 8002 is not allowed here" in answer.document["message"]
    assert [one["status"] for one in answer.document["data"]["checks"]] == ["ok", "error", "error"]
    assert not place.workspace.exists()


def test_a_refused_project_stops_nothing_that_is_prepared(prepare, place):
    prepare(OK)
    before = (place.workspace / "project.yml").stat().st_ino
    assert prepare(ERROR).code == 4
    assert (place.workspace / "project.yml").stat().st_ino == before


@pytest.mark.parametrize("body", ["raise RuntimeError('out of order')", "return ['text']", "return 7"])
def test_a_check_that_fails_itself_is_a_warning_that_names_its_plugin(prepare, body):
    answer = prepare(body, OK)
    assert answer.data["checks"] == [{"component": "sites", "status": "ok", "details": "2 sites"}]
    assert "acme_0" in answer.err
