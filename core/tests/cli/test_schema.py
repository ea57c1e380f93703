"""``--schema``: what a command takes and does."""

from __future__ import annotations

import json

import click
import pytest

from flpoc.cli.command import Command, RetryToken
from flpoc.cli.main import COMMANDS, main
from flpoc.cli.options import Number, option
from flpoc.cli.schema import schema


def test_it_bypasses_required_arguments(capsys):
    assert main(["plugins", "show", "--schema"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["schema_version"] == "1"
    assert said["command"] == "flpoc plugins show"
    assert said["description"]
    assert said["args"] == [{"name": "name", "type": "string", "required": True, "description": "", "default": None}]
    assert said["output_modes"] == ["txt", "json"]
    assert (said["streaming"], said["mutating"], said["idempotent"]) == (False, False, True)
    assert said["retry_token"] == {"supported": False}
    assert all(example.startswith("flpoc ") for example in said["examples"])


def test_a_group_is_not_described(capsys):
    assert main(["plugins", "--schema"]) == 4
    assert main(["--schema"]) == 4
    assert main(["plugins", "nothing", "--schema"]) == 4
    assert capsys.readouterr().out == ""


def test_arguments_are_described_as_documented():
    @click.command(
        "submit",
        cls=Command,
        examples=("flpoc job submit -j job",),
        mutating=True,
        idempotent=False,
        retry_token=RetryToken("--submit-token", "study and submitter", "gives the first job's id"),
    )
    @option("-j", "--job-folder", default="./current_job", bare="./current_job", help="The job.")
    @option("-c", "--clients", words=True)
    @option("--force", is_flag=True)
    @option("--timeout", type=Number(float, low=0), default=0.5)
    @option("--tail", type=Number(int, low=0))
    @option("--kind", type=click.Choice(["a", "b"]), required=True)
    def submit():
        """Submit a job."""

    said = schema(click.Context(submit, info_name="flpoc job submit"))
    by_name = {one["name"]: one for one in said["args"]}
    assert by_name["--job-folder"] == {
        "name": "--job-folder",
        "type": "path",
        "required": False,
        "description": "The job.",
        "default": "./current_job",
        "aliases": ["-j"],
        "nargs": "?",
    }
    assert by_name["--clients"]["nargs"] == "+"
    assert (by_name["--force"]["type"], by_name["--force"]["default"]) == ("boolean", False)
    assert (by_name["--timeout"]["type"], by_name["--timeout"]["default"]) == ("number", 0.5)
    assert (by_name["--tail"]["type"], by_name["--tail"]["default"]) == ("integer", None)
    assert (by_name["--kind"]["choices"], by_name["--kind"]["required"]) == (["a", "b"], True)
    assert said["retry_token"] == {
        "supported": True,
        "flag": "--submit-token",
        "scope": "study and submitter",
        "retry_safe_when_present": True,
        "effect": "gives the first job's id",
    }


@pytest.mark.parametrize("name", [name for name, _, _ in COMMANDS])
def test_every_command_of_the_table_says_what_it_does(name):
    summary = {name: summary for name, _, summary in COMMANDS}[name]
    assert summary.endswith(".")
    assert len(summary) <= 70
