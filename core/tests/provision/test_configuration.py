"""The user's configuration, which kit a command uses, and how a proof of concept registers its kits."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flpoc.configuration import (
    Configuration,
    configuration_file,
    poc_workspace,
    register_poc_kit,
    register_poc_kits,
    resolve_kit,
)
from flpoc.errors import ConfigError, KitError, UsageError
from flpoc.settings import read_file

ADMIN, LEAD = "admin@nvidia.com", "lead@nvidia.com"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / ".flpoc" / "config.conf"


def hocon(path: Path, text: str) -> Configuration:
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return Configuration.load(path)


# -- the file


def test_no_file_is_an_empty_configuration(path: Path):
    assert Configuration.load(path) == Configuration(path=path)


def test_what_is_saved_is_read_again(path: Path, tmp_path: Path):
    saved = (
        Configuration.load(path)
        .with_kit(ADMIN, tmp_path / "a")
        .with_kit("plain", tmp_path / "b")
        .activate(ADMIN)
        .with_workspace(tmp_path / "poc")
        .with_job_templates("/templates")
    )
    saved.save()
    assert Configuration.load(path) == saved


def test_what_is_saved_is_json_and_hocon_in_version_2(path: Path):
    Configuration.load(path).with_kit(ADMIN, "/kit").activate(ADMIN).save()
    from pyhocon import ConfigFactory

    document = json.loads(path.read_text())
    assert document == {"version": 2, "startup_kits": {"active": ADMIN, "entries": {ADMIN: "/kit"}}}
    assert json.loads(json.dumps(ConfigFactory.parse_string(path.read_text()).as_plain_ordered_dict())) == document


def test_it_is_for_its_owner_only_and_leaves_nothing_beside_it(path: Path):
    Configuration.load(path).with_kit(ADMIN, "/kit").save()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [one.name for one in path.parent.iterdir()] == ["config.conf"]


def test_a_hand_written_file_is_read(path: Path):
    found = hocon(
        path,
        """
        version = 2
        startup_kits {
          active = "admin@nvidia.com"
          entries { "admin@nvidia.com" = "/kits/admin", plain = /kits/plain }
        }
        poc.workspace = /work
        job_template { path = "/templates" }
        plugins { load = ["acme.hooks"], disable = [docker] }
        mine { own = 1 }
        """,
    )
    assert (found.active, found.kits) == (ADMIN, {ADMIN: "/kits/admin", "plain": "/kits/plain"})
    assert (found.workspace, found.job_templates) == ("/work", "/templates")
    assert (found.plugins_load, found.plugins_disable) == (("acme.hooks",), ("docker",))


@pytest.mark.parametrize(
    "text",
    [
        'startup_kits.active = "a@b.c"\nstartup_kits.entries."a@b.c" = /kits/a\npoc.workspace = ~/poc # mine\n',
        'startup_kits { active: "a@b.c", entries { "a@b.c": "/kits/a" } } // mine\npoc { workspace: ~/poc }',
        '{ "startup_kits": { active = "a@b.c" }, startup_kits.entries { "a@b.c" = /kits/a }, poc.workspace = ~/poc }',
        'startup_kits {\n active = "a@b.c"\n}\n"startup_kits"."entries"."a@b.c" = /kits/a\npoc."workspace" = ~/poc',
    ],
)
def test_people_may_nest_dot_and_quote_as_they_like(path: Path, text: str):
    found = hocon(path, text)
    assert (found.active, found.kits, found.workspace) == ("a@b.c", {"a@b.c": "/kits/a"}, "~/poc")


def test_what_it_does_not_know_it_keeps(path: Path):
    hocon(path, '{"version": 2, "mine": {"own": 1}, "poc": {"extra": 2}}').with_workspace("/w").save()
    found = read_file(path)
    assert (found["mine"], found["poc"]) == ({"own": 1}, {"extra": 2, "workspace": "/w"})


def test_old_keys_are_read_and_the_new_ones_written(path: Path, provisioned: Path):
    kit = provisioned / ADMIN / "startup"
    found = hocon(path, f'startup_kit {{ path = "{kit}" }}\npoc_workspace {{ path = "/old/poc" }}\n')
    assert (found.active, found.kits, found.workspace) == (ADMIN, {ADMIN: str(kit)}, "/old/poc")
    found.save()
    assert json.loads(path.read_text()) == {
        "version": 2,
        "startup_kits": {"active": ADMIN, "entries": {ADMIN: str(kit)}},
        "poc": {"workspace": "/old/poc"},
    }


def test_an_old_kit_that_is_gone_is_reported_when_it_is_used(path: Path):
    found = hocon(path, "startup_kit { path = /gone/admin }\n")
    with pytest.raises(KitError, match="/gone/admin: no such folder"):
        resolve_kit(found, environ={})


@pytest.mark.row("C16")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "wanted are keys and values"),
        ("{", "config.conf"),
        ('{"version": 3}', "version: 3 is not known here"),
        ('{"version": "2"}', "version: '2' is not known here"),
        ('{"startup_kits": []}', "startup_kits: wanted are keys and values"),
        ('{"startup_kits": {"entries": "/x"}}', "startup_kits.entries: wanted are keys and values"),
        ('{"startup_kits": {"entries": {"a": 1}}}', "startup_kits.entries.a: wanted is a path"),
        ('startup_kits.entries.admin@nvidia.com = "/x"', "config.conf"),
        ('{"startup_kits": {"active": 1}}', "startup_kits.active: 1 is not text"),
        ('{"poc": "x"}', "poc: wanted are keys and values"),
        ('{"plugins": {"load": "x"}}', "plugins.load: wanted is a list of texts"),
        ('include "other.conf"', "include is not allowed"),
        ("a = ${HOME}", "substitutions"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_key(path: Path, text: str, says: str):
    with pytest.raises(ConfigError) as caught:
        hocon(path, text)
    assert says in caught.value.message
    assert str(path) in caught.value.message


@pytest.mark.row("C17")
@pytest.mark.parametrize("home", [{}, {"HOME": ""}, {"HOME": "  "}])
def test_without_home_nothing_can_be_saved_and_the_message_says_so(home: dict[str, str]):
    found = Configuration.load(environ=home)
    assert found == Configuration()
    with pytest.raises(ConfigError, match="HOME is not set") as caught:
        found.with_workspace("/w").save()
    assert caught.value.hint == "set HOME, or FLPOC_CONFIG to a file"


@pytest.mark.row("C17")
def test_a_home_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "home").touch()
    found = Configuration.load(environ={"HOME": str(tmp_path / "home")})
    with pytest.raises(ConfigError, match=r"home/\.flpoc/config\.conf: the configuration cannot be written") as caught:
        found.save()
    assert "FLPOC_CONFIG" in caught.value.hint


def test_a_variable_names_another_file(tmp_path: Path):
    environ = {"HOME": "/nowhere", "FLPOC_CONFIG": str(tmp_path / "mine.conf")}
    Configuration.load(environ=environ).with_workspace("/w").save()
    assert Configuration.load(environ=environ).workspace == "/w"
    assert configuration_file({"HOME": "/home/me"}) == Path("/home/me/.flpoc/config.conf")


def test_a_link_to_the_file_stays_a_link(path: Path, tmp_path: Path):
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "dotfile")
    Configuration.load(path).with_workspace("/w").save()
    assert path.is_symlink()
    assert Configuration.load(tmp_path / "dotfile").workspace == "/w"


def test_a_failed_save_leaves_the_old_file(path: Path):
    Configuration.load(path).with_workspace("/w").save()
    before = path.read_bytes()
    with pytest.raises(TypeError):
        Configuration(path=path, rest={"mine": object()}).save()
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == ["config.conf"]


def test_what_somebody_else_has_changed_meanwhile_stays(path: Path, tmp_path: Path):
    Configuration(path=path).with_kit("old", tmp_path).with_kit("gone", tmp_path).activate("old").save()
    first, second = Configuration.load(path), Configuration.load(path)
    first.with_kit("one", tmp_path).without_kit("gone").with_workspace(tmp_path).save()
    second.with_kit("two", tmp_path).activate("two").save()
    found = Configuration.load(path)
    assert set(found.kits) == {"old", "one", "two"}
    assert (found.active, found.workspace) == ("two", str(tmp_path))


def test_many_who_write_at_the_same_moment_lose_nothing(path: Path, tmp_path: Path):
    def add(name: str) -> None:
        Configuration.load(path).with_kit(name, tmp_path).save()

    names = {f"kit-{number}" for number in range(40)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, sorted(names)))
    assert set(Configuration.load(path).kits) == names


def test_reading_it_imports_nothing_heavy(path: Path):
    Configuration.load(path).with_kit(ADMIN, "/kit").activate(ADMIN).save()
    code = (
        "import sys; from flpoc.configuration import Configuration; assert Configuration.load().active\n"
        "heavy = {'cryptography', 'yaml', 'pyhocon', 'grpc', 'numpy', 'msgspec'} & set(sys.modules); assert not heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "FLPOC_CONFIG": str(path)})


# -- changes


def test_changes_are_made_to_a_copy():
    empty = Configuration()
    assert empty.with_kit(ADMIN, "/kit").kits == {ADMIN: "/kit"}
    assert empty == Configuration()


def test_the_active_kit_once_removed_is_active_no_more():
    found = Configuration().with_kit(ADMIN, "/a").with_kit(LEAD, "/b").activate(ADMIN)
    assert found.without_kit(LEAD).active == ADMIN
    assert found.without_kit(ADMIN).active == ""


@pytest.mark.parametrize("method", ["activate", "without_kit"])
def test_an_unknown_kit_gets_a_suggestion(method: str):
    with pytest.raises(UsageError, match=r"no kit 'led@nvidia\.com' is registered") as caught:
        getattr(Configuration().with_kit(LEAD, "/b"), method)("led@nvidia.com")
    assert caught.value.hint == f"did you mean {LEAD!r}?"


@pytest.mark.parametrize("kit_id", ["", " a", "a\n", "x" * 300])
def test_an_id_is_readable_text(kit_id: str):
    with pytest.raises(UsageError, match="cannot be the id of a kit"):
        Configuration().with_kit(kit_id, "/a")


@pytest.mark.parametrize(
    ("environ", "workspace", "expected"),
    [
        ({"FLPOC_POC_WORKSPACE": "/env"}, "/config", "/env"),
        ({"FLPOC_POC_WORKSPACE": " "}, "/config", "/config"),
        ({}, "/config", "/config"),
        ({}, "", "/tmp/flpoc/poc"),
    ],
)
def test_the_workspace_is_that_of_environment_then_configuration(
    environ: dict[str, str], workspace: str, expected: str
):
    assert poc_workspace(Configuration(workspace=workspace), environ) == Path(expected)


# -- which kit a command uses


@pytest.fixture
def registered(provisioned: Path) -> Configuration:
    return Configuration().with_kit(ADMIN, provisioned / ADMIN).with_kit(LEAD, provisioned / LEAD).activate(ADMIN)


def test_an_id_comes_before_environment_and_active_kit(registered: Configuration, provisioned: Path):
    environ = {"FLPOC_STARTUP_KIT_DIR": str(provisioned / ADMIN)}
    assert resolve_kit(registered, kit_id=LEAD, environ=environ) == provisioned / LEAD


def test_a_path_comes_before_environment_and_active_kit(registered: Configuration, provisioned: Path):
    environ = {"FLPOC_STARTUP_KIT_DIR": str(provisioned / ADMIN)}
    assert resolve_kit(registered, startup_kit=provisioned / LEAD / "startup", environ=environ) == provisioned / LEAD


def test_the_environment_comes_before_the_active_kit(registered: Configuration, provisioned: Path):
    assert resolve_kit(registered, environ={"FLPOC_STARTUP_KIT_DIR": str(provisioned / LEAD)}) == provisioned / LEAD


@pytest.mark.parametrize("environ", [{}, {"FLPOC_STARTUP_KIT_DIR": "  "}])
def test_the_active_kit_is_the_last_resort(registered: Configuration, provisioned: Path, environ: dict[str, str]):
    assert resolve_kit(registered, environ=environ) == provisioned / ADMIN


def test_an_id_and_a_path_exclude_each_other(registered: Configuration):
    with pytest.raises(UsageError, match="exclude each other"):
        resolve_kit(registered, kit_id=LEAD, startup_kit="/x", environ={})


@pytest.mark.parametrize(
    ("configuration", "arguments", "says"),
    [
        (Configuration(), {}, "no startup kit is given and none is active"),
        (Configuration(), {"kit_id": "x"}, "no kit 'x' is registered"),
        (Configuration(), {"startup_kit": "/none"}, "--startup-kit: /none: no such folder"),
        (Configuration(), {"environ": {"FLPOC_STARTUP_KIT_DIR": "/none"}}, "FLPOC_STARTUP_KIT_DIR: /none"),
        (Configuration(active="x", kits={"x": "/none"}), {}, "the active kit 'x': /none: no such folder"),
        (Configuration(active="x"), {}, "the active kit 'x' is not registered any more"),
        (Configuration(), {"startup_kit": "/"}, "/ is not a startup kit"),
    ],
)
def test_without_a_kit_the_three_ways_to_give_one_are_named(
    configuration: Configuration, arguments: dict[str, object], says: str
):
    with pytest.raises(KitError) as caught:
        resolve_kit(configuration, **{"environ": {}, **arguments})  # type: ignore[arg-type]
    assert says in caught.value.message
    assert (caught.value.code, caught.value.exit_status) == ("STARTUP_KIT_MISSING", 2)
    for way in ("--kit-id", "--startup-kit", "FLPOC_STARTUP_KIT_DIR", "flpoc config use"):
        assert way in caught.value.hint


def test_a_sites_kit_is_no_kit_for_commands(provisioned: Path):
    with pytest.raises(KitError, match="is the kit of a site") as caught:
        resolve_kit(Configuration(), startup_kit=provisioned / "site-1", environ={})
    assert caught.value.code == "INVALID_KIT"


# -- a proof of concept registers its kits


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    path = tmp_path / "poc"
    for name in (ADMIN, LEAD):
        (path / "prod_00" / name).mkdir(parents=True)
    return path


def kits(workspace: Path) -> dict[str, Path]:
    return {name: workspace / "prod_00" / name for name in (ADMIN, LEAD)}


def texts(paths: dict[str, Path]) -> dict[str, str]:
    return {name: str(path) for name, path in paths.items()}


def test_its_kits_are_registered_and_the_first_is_activated(workspace: Path):
    found, report, warnings = register_poc_kits(Configuration(), workspace, kits(workspace))
    assert (found.kits, found.active, found.workspace) == (texts(kits(workspace)), ADMIN, str(workspace))
    assert report == {
        "prior_active": None,
        "active": ADMIN,
        "changed": True,
        "registered": texts(kits(workspace)),
    }
    assert warnings == []


def test_preparing_again_replaces_what_it_registered(workspace: Path):
    before = (
        Configuration()
        .with_kit("old@nvidia.com", workspace / "prod_00" / "old@nvidia.com")
        .with_kit(ADMIN, workspace / "prod_00" / ADMIN)
        .activate("old@nvidia.com")
    )
    found, report, warnings = register_poc_kits(before, workspace, kits(workspace))
    assert found.kits == texts(kits(workspace))
    assert (report["prior_active"], report["active"], report["changed"]) == ("old@nvidia.com", ADMIN, True)
    assert warnings == []


def test_preparing_the_same_again_changes_nothing(workspace: Path):
    first = register_poc_kits(Configuration(), workspace, kits(workspace))[0]
    found, report, _ = register_poc_kits(first, workspace, kits(workspace))
    assert found == first
    assert report["changed"] is False


def test_a_kit_elsewhere_keeps_its_id_and_the_new_one_gets_another(workspace: Path, tmp_path: Path):
    (tmp_path / "prod").mkdir()
    before = Configuration().with_kit(ADMIN, tmp_path / "prod").activate(ADMIN)
    found, report, warnings = register_poc_kits(before, workspace, kits(workspace))
    assert found.kits[ADMIN] == str(tmp_path / "prod")
    assert found.kits[f"{ADMIN}@poc"] == str(kits(workspace)[ADMIN])
    assert found.kits[LEAD] == str(kits(workspace)[LEAD])
    assert (found.active, report["active"], report["prior_active"]) == (f"{ADMIN}@poc", f"{ADMIN}@poc", ADMIN)
    assert len(warnings) == 1
    assert str(tmp_path / "prod") in warnings[0]
    assert f"{ADMIN}@poc" in warnings[0]


def test_preparing_again_beside_a_kit_elsewhere_gives_the_same_id(workspace: Path, tmp_path: Path):
    (tmp_path / "prod").mkdir()
    before = Configuration().with_kit(ADMIN, tmp_path / "prod")
    once = register_poc_kits(before, workspace, kits(workspace))[0]
    assert register_poc_kits(once, workspace, kits(workspace))[0] == once


def test_a_second_workspace_of_the_same_name_finds_a_free_id(workspace: Path, tmp_path: Path):
    (tmp_path / "prod").mkdir()
    other = tmp_path / "other" / "poc"
    for path in kits(other).values():
        path.mkdir(parents=True)
    before = Configuration().with_kit(ADMIN, tmp_path / "prod")
    once = register_poc_kits(before, workspace, kits(workspace))[0]
    twice = register_poc_kits(once, other, kits(other))[0]
    assert twice.kits[ADMIN] == str(tmp_path / "prod")
    assert twice.kits[f"{ADMIN}@poc"] == str(kits(workspace)[ADMIN])
    assert twice.kits[f"{ADMIN}@poc-2"] == str(kits(other)[ADMIN])
    assert twice.kits[LEAD] == str(kits(workspace)[LEAD])
    assert twice.kits[f"{LEAD}@poc"] == str(kits(other)[LEAD])


def test_a_registration_whose_folder_is_gone_is_replaced(workspace: Path):
    before = Configuration().with_kit(ADMIN, "/gone/for/good")
    found, _, warnings = register_poc_kits(before, workspace, kits(workspace))
    assert found.kits[ADMIN] == str(kits(workspace)[ADMIN])
    assert warnings == []


def test_other_registrations_stay(workspace: Path, tmp_path: Path):
    before = Configuration().with_kit("me@hospital.org", tmp_path)
    assert register_poc_kits(before, workspace, kits(workspace))[0].kits["me@hospital.org"] == str(tmp_path)


def test_one_more_user_is_registered_beside_the_others(workspace: Path):
    before = register_poc_kits(Configuration(), workspace, kits(workspace))[0]
    found, kit_id, warnings = register_poc_kit(before, workspace, "new@nvidia.com", workspace / "new")
    assert (kit_id, warnings, found.active) == ("new@nvidia.com", [], ADMIN)
    assert found.kits == {**before.kits, "new@nvidia.com": str(workspace / "new")}
