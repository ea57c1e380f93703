"""What plugins find in a project decides before anything is written."""

from __future__ import annotations

import json
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
        return place.run("prepare", text=text, PYTHONPATH=str(packages), FLPOC_CONFIG=str(tmp_path / "config.conf"))

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


AGGREGATOR = """
    from flpoc import hookimpl

    FLPOC_API = 1

    @hookimpl
    def flpoc_aggregators():
        return ()
"""


def test_private_plugins_that_services_could_not_load_are_left_out_with_a_warning(place, tmp_path):
    packages = tmp_path / "packages"
    packages.mkdir()
    for name, source in {"acme_job": AGGREGATOR, "acme_shown": AGGREGATOR.replace("aggregators", "formatters")}.items():
        (packages / name).mkdir()
        (packages / name / "hooks.py").write_text(textwrap.dedent(source))
        (packages / f"{name}_plain.py").write_text(textwrap.dedent(source))
    loaded = ["acme_job.hooks", "acme_shown.hooks", "acme_job_plain", "acme_shown_plain"]
    (tmp_path / "config.conf").write_text(json.dumps({"plugins": {"load": loaded}}))
    answer = place.run("prepare", PYTHONPATH=str(packages), FLPOC_CONFIG=str(tmp_path / "config.conf"))
    assert answer.data["port"]
    assert "acme" not in (place.workspace / "project.yml").read_text()
    assert "Plugin acme_job.hooks is left out of the project: servers and sites get no PYTHONPATH" in answer.err
    assert "Plugin acme_job_plain is left out of the project" in answer.err
    assert "acme_shown" not in answer.err  # only commands ask it


@pytest.mark.row("P1")
def test_what_services_cannot_load_is_said_by_prepare_start_and_their_logs(place):
    file = place.project_file(1, place.spare_port)
    file.write_text(f"{file.read_text()}plugins: [local, acme.gone, acme-gone]\n")
    prepared = place.run("prepare", "-i", str(file))
    assert "Plugin acme.gone of the project could not be loaded here" in prepared.err
    assert "Plugin acme-gone of the project could not be loaded here: it is not installed" in prepared.err
    started = place.run("start")
    try:
        assert started.data["ready"]
        assert "server, site-1: plugin acme.gone is broken: ModuleNotFoundError" in started.err
        assert "server, site-1: plugin acme-gone is not installed here" in started.data["warnings"]
        log = (place.kit("site-1") / "poc_console.log").read_text()
        assert " WARNING flpoc.site plugin acme.gone is broken" in log
    finally:
        place.run("stop")
