"""Options that take several words, or whose value may be left out, and numbers."""

from __future__ import annotations

import click
import pytest

from flpoc.cli.command import Command, Group
from flpoc.cli.options import Number, option


@click.command("try", cls=Command, examples=(), mutating=False, idempotent=True)
@option("-n", "--number-of-clients", "--number_of_clients", type=Number(int, low=1, high=1000), default=2, bare=2)
@option("-c", "--clients", words=True)
@option("-gpu", "--gpu", words=True, type=Number(int, low=0))
@option("-f", "--config_file", "files", grouped=True)
@option("-he", "--he", is_flag=True)
@option("-debug", "--debug", is_flag=True)
@option("-d", "--docker-image", bare="")
@option("-pw", "--pw", "workspace", bare=None)
@option("-p", "--service")
@click.argument("rest", nargs=-1)
def attempt(**values):
    """Take words."""


def read(*words):
    return attempt.make_context("try", list(words)).params


def refused(*words):
    with pytest.raises(click.UsageError) as caught:
        read(*words)
    return caught.value.format_message()


def test_several_words_follow_one_option():
    assert read("-c", "hospital-a", "hospital-b", "-n", "3")["clients"] == ("hospital-a", "hospital-b")


def test_an_option_of_several_words_may_be_repeated():
    assert read("-c", "a", "b", "--clients", "c", "--clients=d")["clients"] == ("a", "b", "c", "d")


def test_each_of_several_words_is_checked_and_keeps_its_place():
    assert read("-gpu", "1", "0", "0", "2")["gpu"] == (1, 0, 0, 2)
    assert "of at least 0" in refused("-gpu", "0", "-1")


def test_words_of_a_repeated_option_can_stay_together():
    values = read("-f", "server.json", "a=1", "b=2", "-f", "client.json", "c=3")["files"]
    assert values == (("server.json", "a=1", "b=2"), ("client.json", "c=3"))


def test_two_dashes_end_several_words():
    values = read("-c", "a", "--", "b")
    assert (values["clients"], values["rest"]) == (("a",), ("b",))


def test_nothing_given_is_nothing():
    values = read()
    assert not values["clients"]
    assert values["number_of_clients"] == 2
    assert values["docker_image"] is None


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["-n"], "number_of_clients", 2),
        (["-n", "-he"], "number_of_clients", 2),
        (["-n", "5"], "number_of_clients", 5),
        (["-n5"], "number_of_clients", 5),
        (["-n=5"], "number_of_clients", 5),
        (["--number-of-clients=5"], "number_of_clients", 5),
        (["-d"], "docker_image", ""),
        (["-d", "--he"], "docker_image", ""),
        (["-d", "flpoc:1"], "docker_image", "flpoc:1"),
        (["-pw"], "workspace", None),
        (["-pw", "/data"], "workspace", "/data"),
    ],
)
def test_a_value_that_may_be_left_out_falls_back(words, name, value):
    assert read(*words)[name] == value


@pytest.mark.parametrize("spelling", ["--number-of-clients", "--number_of_clients", "--number_of-clients"])
def test_underscore_equals_dash_in_options(spelling):
    assert read(spelling, "7")["number_of_clients"] == 7


@pytest.mark.parametrize("spelling", ["--config-file", "--config_file"])
def test_underscore_equals_dash_where_only_the_underscore_is_declared(spelling):
    assert read(spelling, "x")["files"] == (("x",),)


def test_a_long_option_with_one_dash_is_not_split_into_letters():
    values = read("-he", "-debug")
    assert values["he"]
    assert values["debug"]
    assert "-hx" in refused("-hx")
    assert "-clients" in refused("-clients", "a")


@pytest.mark.row("C2")
def test_a_value_that_looks_like_an_option_is_missing():
    assert "'-p' requires a value" in refused("-p", "--he")
    assert "'-p' requires a value" in refused("-p")
    assert "'-c' requires a value" in refused("-c", "-he")


@pytest.mark.row("C2")
def test_a_single_value_given_twice_is_refused():
    assert "given twice" in refused("-p", "a", "--service", "b")


@pytest.mark.row("C2")
@pytest.mark.parametrize("words", [("-p", ""), ("--service=",), ("-c", "", "a")])
def test_a_value_is_not_empty(words):
    assert "empty value" in refused(*words)


@pytest.mark.row("C3")
@pytest.mark.parametrize("text", ["0", "-1", "1001", "1e9", "abc", "1.5", "١٢", "1_0", " 5"])
def test_a_whole_number_outside_its_range_names_the_range(text):
    assert "a whole number from 1 to 1000" in refused(f"--number-of-clients={text}")


@pytest.mark.row("C3", "C4")
@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-5", "10x", "1e999", "٣", "0"])
def test_a_number_is_finite_ascii_and_in_range(text):
    with pytest.raises(click.BadParameter, match="greater than 0"):
        Number(float, low=0, above=True).convert(text, None, None)


@pytest.mark.parametrize(("text", "value"), [("2", 2.0), ("0.5", 0.5), (".5", 0.5), ("1e2", 100.0), ("+3", 3.0)])
def test_a_number_is_read(text, value):
    assert Number(float, low=0).convert(text, None, None) == value


def test_a_group_knows_its_commands_by_alias():
    group = Group("job")
    group.add_command(Command("log-config", examples=(), mutating=True, idempotent=True, aliases=("log",)))
    context = click.Context(group, info_name="job")
    assert group.get_command(context, "log") is group.get_command(context, "log_config")
    assert group.list_commands(context) == ["log-config"]
