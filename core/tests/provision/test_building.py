"""Making kits: what is in them, that they come whole or not at all, and what plugins add."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import stat
import subprocess
import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs
import pytest

from flpoc import API, Component, hookimpl
from flpoc.errors import ConfigError, KitError, PluginError
from flpoc.plugins import Plugins
from flpoc.provision.authority import LocalAuthority
from flpoc.provision.building import add_kits, latest_prod, provision
from flpoc.provision.kits import load_kit
from flpoc.provision.project_file import sample_project
from flpoc.provisioning import CertificateRequest, KitFile, Participant, Project

PROJECT = sample_project(["site-1"])
COMMON = {"rootCA.pem", "manifest.json", "manifest.sig"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "startup", "local"),
    [
        ("server", {"fed_server.json", "server.crt", "server.key", "start.sh"}, {"authorization.json", "policy.json"}),
        ("site-1", {"fed_client.json", "client.crt", "client.key", "start.sh"}, {"authorization.json", "policy.json"}),
        ("lead@nvidia.com", {"fed_admin.json", "client.crt", "client.key"}, set()),
    ],
)
def test_a_kit_holds_what_its_owner_needs_and_no_more(provisioned: Path, name: str, startup: set[str], local: set[str]):
    kit = provisioned / name
    assert names(kit) == {"startup", "local", "transfer"}
    assert names(kit / "startup") == startup | COMMON
    assert names(kit / "local") == local
    assert names(kit / "transfer") == set()


def test_every_participant_gets_a_kit(provisioned: Path):
    assert names(provisioned) == {one.name for one in sample_project(["site-1", "site-2"]).participants}
    assert provisioned.name == "prod_00"
    assert names(provisioned.parent) == {"prod_00", "ca"}


def test_private_keys_and_folders_are_for_their_owner_only(provisioned: Path):
    for path in provisioned.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.is_dir():
            assert mode == 0o700, path
        elif path.suffix == ".key":
            assert mode == 0o600, path


def test_no_two_participants_share_a_key(provisioned: Path):
    keys = [path.read_bytes() for path in provisioned.rglob("*.key")]
    assert len(keys) == len(set(keys)) == 6


def test_settings_say_where_the_server_is(provisioned: Path):
    found = json.loads((provisioned / "site-1" / "startup" / "fed_client.json").read_text())
    assert found == {
        "format": 1,
        "project": "example_project",
        "name": "site-1",
        "org": "nvidia",
        "server": {"name": "server", "host": "localhost", "port": 8002},
        "launcher": "local",
        "plugins": ["local"],
    }


def test_the_policy_of_a_site_is_written_with_its_defaults(provisioned: Path):
    assert json.loads((provisioned / "site-1" / "local" / "policy.json").read_text()) == {
        "format": 1,
        "launcher": "local",
        "allow_custom_code": True,
        "launcher_settings": {},
        "images": {},
        "environments": {},
        "filters": [],
        "share_metrics": True,
        "datasets": {},
        "python": "",
        "max_jobs": 4,
        "share_logs": True,
        "resources": {},
        "studies": [],
    }


def test_the_manifest_covers_all_of_startup_but_itself_and_the_key(provisioned: Path):
    startup = provisioned / "server" / "startup"
    manifest = json.loads((startup / "manifest.json").read_text())
    assert (manifest["format"], manifest["project"], manifest["participant"]) == (1, "example_project", "server")
    assert manifest["files"] == {
        name: hashlib.sha256((startup / name).read_bytes()).hexdigest()
        for name in names(startup) - {"manifest.json", "manifest.sig", "server.key"}
    }


@pytest.mark.parametrize(("name", "module"), [("server", "flpoc.server"), ("site-1", "flpoc.site")])
def test_start_sh_runs_the_module_with_its_own_kit(prod: Path, tmp_path: Path, name: str, module: str):
    fake = tmp_path / "bin" / "python3"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    start = prod / name / "startup" / "start.sh"
    ran = subprocess.run(
        [start, "--more"], capture_output=True, text=True, env={"PATH": f"{fake.parent}:/usr/bin:/bin"}, check=True
    )
    flag, ran_module, kit, more = ran.stdout.splitlines()
    assert (flag, ran_module, more) == ("-m", module, "--more")
    assert Path(kit).resolve() == prod / name


def test_sites_dial_the_host_that_the_server_names_or_their_own(tmp_path: Path):
    project = Project(
        name="p",
        port=8443,
        participants=(
            Participant("server1", "server", "o", connect_to="fl.org"),
            Participant("a", "site", "o"),
            Participant("b", "site", "o", connect_to="[::1]:99"),
            Participant("c", "site", "o", connect_to="proxy"),
        ),
    )
    prod = provision(project, tmp_path)
    addresses = {name: load_kit(prod / name).server_address for name in "abc"}
    assert addresses == {"a": "fl.org:8443", "b": "[::1]:99", "c": "proxy:8443"}


@pytest.mark.row("G19")
def test_a_second_provisioning_keeps_the_authority_and_makes_a_new_generation(tmp_path: Path):
    first, second = provision(PROJECT, tmp_path), provision(PROJECT, tmp_path)
    assert (first.name, second.name) == ("prod_00", "prod_01")
    site, server = load_kit(first / "site-1"), load_kit(second / "server")
    assert site.root_pem == server.root_pem
    assert site.key_pem != load_kit(second / "site-1").key_pem


def test_the_newest_generation_is_found_by_number(tmp_path: Path):
    for name in ("prod_02", "prod_10", "prod_100", "prod_x", "prod_"):
        (tmp_path / name).mkdir()
    (tmp_path / "prod_999").touch()
    assert latest_prod(tmp_path) == tmp_path / "prod_100"
    assert latest_prod(tmp_path / "prod_x") is None


def test_only_some_participants_can_be_provisioned(tmp_path: Path):
    assert names(provision(PROJECT, tmp_path, only=["site-1"])) == {"site-1"}


def test_an_unknown_participant_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="'site-2' is no participant") as caught:
        provision(PROJECT, tmp_path, only=["site-2"])
    assert caught.value.hint.startswith("known: ")
    assert "site-1" in caught.value.hint


def test_a_wrong_project_leaves_nothing(tmp_path: Path):
    with pytest.raises(ConfigError):
        provision(attrs.evolve(PROJECT, port=0), tmp_path / "work")
    assert names(tmp_path) == set()


def test_one_more_kit_is_put_beside_the_others(tmp_path: Path):
    prod = provision(PROJECT, tmp_path)
    before = {path: path.read_bytes() for path in prod.rglob("*") if path.is_file()}
    bigger = attrs.evolve(PROJECT, participants=(*PROJECT.participants, Participant("site-2", "site", "nvidia")))
    assert add_kits(bigger, tmp_path, ["site-2"]) == {"site-2": prod / "site-2"}
    assert load_kit(prod / "site-2").root_pem == load_kit(prod / "server").root_pem
    assert all(path.read_bytes() == content for path, content in before.items())
    assert names(tmp_path) == {"example_project"}


def test_a_kit_that_is_there_is_replaced_only_on_demand(tmp_path: Path):
    prod = provision(PROJECT, tmp_path)
    key = load_kit(prod / "site-1").key_pem
    with pytest.raises(KitError, match="site-1 exists"):
        add_kits(PROJECT, tmp_path, ["site-1"])
    assert load_kit(prod / "site-1").key_pem == key
    add_kits(PROJECT, tmp_path, ["site-1"], replace=True)
    assert load_kit(prod / "site-1").key_pem != key


def test_a_replaced_kit_keeps_what_is_its_owners(tmp_path: Path):
    prod = provision(PROJECT, tmp_path)
    (prod / "site-1" / "local" / "policy.json").write_text('{"max_jobs": 1}')
    (prod / "site-1" / "transfer" / "result").write_text("mine")
    add_kits(PROJECT, tmp_path, ["site-1"], replace=True)
    assert load_kit(prod / "site-1").policy["max_jobs"] == 1
    assert (prod / "site-1" / "transfer" / "result").read_text() == "mine"


def test_a_kit_cannot_be_added_where_nothing_was_provisioned(tmp_path: Path):
    with pytest.raises(KitError, match="nothing is provisioned here"):
        add_kits(PROJECT, tmp_path / "work", ["site-1"])
    assert names(tmp_path) == set()


def test_a_lost_authority_is_not_replaced_beside_old_kits(tmp_path: Path):
    home = provision(PROJECT, tmp_path).parent
    (home / "ca").rename(tmp_path / "elsewhere")
    with pytest.raises(KitError, match="ca is missing"):
        provision(PROJECT, tmp_path)
    assert names(home) == {"prod_00"}


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file"):
        provision(PROJECT, tmp_path / "file" / "work")


def test_what_a_killed_provisioning_left_is_swept_by_the_next(tmp_path: Path):
    left_over = tmp_path / ".example_project.new-abc" / "kits"
    left_over.mkdir(parents=True)
    provision(PROJECT, tmp_path)
    assert names(tmp_path) == {"example_project"}


def test_a_provisioning_killed_at_any_instant_leaves_whole_generations_only(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from flpoc.provision.kits import provision\n"
        "from flpoc.provision.project_file import sample_project\n"
        "while True: print(provision(sample_project(['site-1']), Path(sys.argv[1])), flush=True)"
    )
    wanted = {one.name for one in PROJECT.participants}
    for generations in range(1, 6):
        with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout is not None
            for _ in range(generations):
                running.stdout.readline()
            running.kill()
    prod = provision(PROJECT, tmp_path)
    assert names(tmp_path) == {"example_project"}
    assert load_kit(prod / "site-1").root_pem == load_kit(prod.parent / "prod_00" / "server").root_pem
    for each in prod.parent.glob("prod_*"):
        assert names(each) == wanted
        for name in wanted:
            load_kit(each / name)


def _provision_here(folder: str) -> str:
    return provision(PROJECT, Path(folder)).name


@pytest.mark.row("G19")
def test_two_at_once_get_generations_of_their_own_under_one_authority(tmp_path: Path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        made = pool.map(_provision_here, [str(tmp_path)] * 4)
    assert sorted(made) == ["prod_00", "prod_01", "prod_02", "prod_03"]
    home = tmp_path / "example_project"
    assert len({load_kit(home / name / "server").root_pem for name in made}) == 1


# -- plugins


class FailingAuthority(LocalAuthority):
    """Fails after it has issued some certificates."""

    def __init__(self) -> None:
        super().__init__()
        self.issued = 0

    def issue(self, folder: Path, request: CertificateRequest) -> bytes:
        self.issued += 1
        if self.issued > 2:
            raise KitError("the authority is closed for today")
        return super().issue(folder, request)


@pytest.fixture
def plugin() -> Iterator[types.ModuleType]:
    """A private plugin that a test fills."""
    module = types.ModuleType("private_hooks")
    module.FLPOC_API = API  # type: ignore[attr-defined]
    sys.modules["private_hooks"] = module
    yield module
    del sys.modules["private_hooks"]


def with_files(plugin: types.ModuleType, *files: object) -> Plugins:
    @hookimpl
    def flpoc_kit_files(project: Project) -> Iterable[object]:
        return files

    plugin.flpoc_kit_files = flpoc_kit_files  # type: ignore[attr-defined]
    return Plugins.load(private=["private_hooks"])


@pytest.mark.parametrize("again", [False, True])
def test_a_build_that_fails_half_way_leaves_what_was_there(plugin: types.ModuleType, tmp_path: Path, again: bool):
    @hookimpl
    def flpoc_authorities() -> Iterable[Component[FailingAuthority]]:
        yield Component("failing", "Fails", lambda _: FailingAuthority())

    plugin.flpoc_authorities = flpoc_authorities  # type: ignore[attr-defined]
    if again:
        provision(PROJECT, tmp_path / "work")
    before = sorted(tmp_path.rglob("*"))
    failing = attrs.evolve(PROJECT, authority="failing")
    with pytest.raises(KitError, match="closed for today"):
        provision(failing, tmp_path / "work", plugins=Plugins.load(private=["private_hooks"]))
    assert sorted(tmp_path.rglob("*")) == before


def test_the_authority_is_chosen_among_plugins(tmp_path: Path):
    with pytest.raises(PluginError, match="no authority 'vault' is installed"):
        provision(attrs.evolve(PROJECT, authority="vault"), tmp_path, plugins=Plugins.load())
    assert load_kit(provision(PROJECT, tmp_path, plugins=Plugins.load()) / "server").kind == "server"


def test_a_plugins_file_is_in_the_kit_and_signed(plugin: types.ModuleType, tmp_path: Path):
    plugins = with_files(
        plugin,
        KitFile("site-1", "startup/he/secret.bin", b"shh", secret=True),
        KitFile("site-1", "local/hint.txt", b"hello"),
    )
    kit = provision(PROJECT, tmp_path, plugins=plugins) / "site-1"
    assert (kit / "startup" / "he" / "secret.bin").read_bytes() == b"shh"
    assert stat.S_IMODE((kit / "startup" / "he" / "secret.bin").stat().st_mode) == 0o600
    assert (kit / "local" / "hint.txt").read_bytes() == b"hello"
    load_kit(kit)
    (kit / "startup" / "he" / "secret.bin").write_bytes(b"other")
    with pytest.raises(KitError, match=r"secret\.bin was changed"):
        load_kit(kit)


def test_a_plugins_file_goes_to_nobody_else(plugin: types.ModuleType, tmp_path: Path):
    prod = provision(PROJECT, tmp_path, plugins=with_files(plugin, KitFile("site-1", "startup/x", b"x")))
    assert [path.parts[-3] for path in prod.rglob("x")] == ["site-1"]


@pytest.mark.row("G17")
@pytest.mark.parametrize(
    "file",
    [
        KitFile("site-1", "startup/../../server/startup/x", b""),
        KitFile("site-1", "/etc/x", b""),
        KitFile("site-1", "transfer/x", b""),
        KitFile("site-1", "startup", b""),
        KitFile("site-1", "startup//x", b""),
        KitFile("site-1", "startup/manifest.sig", b""),
        KitFile("site-1", "startup/client.key", b""),
        KitFile("site-1", "local/policy.json", b""),
        KitFile("site-1", "startup/client.crt/x", b""),
        KitFile("nobody", "startup/x", b""),
        "startup/x",
    ],
)
def test_a_plugins_file_that_does_not_fit_stops_the_provisioning(
    plugin: types.ModuleType, tmp_path: Path, file: object
):
    plugins = with_files(plugin, file)
    with pytest.raises(PluginError):
        provision(PROJECT, tmp_path / "work", plugins=plugins)
    assert names(tmp_path) == set()


def test_a_plugin_that_fails_to_make_its_files_stops_the_provisioning(plugin: types.ModuleType, tmp_path: Path):
    @hookimpl
    def flpoc_kit_files(project: Project) -> Iterable[KitFile]:
        raise RuntimeError("no entropy")

    plugin.flpoc_kit_files = flpoc_kit_files  # type: ignore[attr-defined]
    with pytest.raises(PluginError, match="private_hooks: its files for kits could not be made: RuntimeError: no entr"):
        provision(PROJECT, tmp_path / "work", plugins=Plugins.load(private=["private_hooks"]))
    assert names(tmp_path) == set()
