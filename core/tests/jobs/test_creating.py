"""A job folder made from a template: all of it or nothing, and nobody's files are lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from flpoc.errors import ConfigError, FlpocError, PluginError, UsageError
from flpoc.jobs.creating import Created, Wanted, create_job, parse_changes, settings_files
from flpoc.jobs.folder import read_job
from flpoc.jobs.templates import Template, choose_template, find_templates
from flpoc.jobs.variables import variables_of
from flpoc.plugins import Plugins
from flpoc.settings import read_file


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins.load()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder; whatever a test does, nothing half made is left in it."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder
    assert [one.name for one in folder.rglob(".*")] == []


def make(folder: Path, plugins: Plugins, *changes: str, template: str = "sag_np", **more: object) -> Created:
    given = parse_changes([["job.conf", *changes]]) if changes else {}
    return create_job(Wanted(folder, choose_template(template, plugins), changes=given, **more), plugins)  # type: ignore[arg-type]


def scripts(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"# {name}\n")
    return folder


# -- what is made


@pytest.mark.parametrize("template", ["sag_np", "cyclic_np"])
def test_a_template_of_core_becomes_a_job_of_the_folders_name(here: Path, plugins: Plugins, template: str) -> None:
    made = make(here / "mine", plugins, template=template)
    assert (made.status, made.warnings) == ("created", ())
    assert sorted(one.name for one in made.folder.iterdir()) == ["code", "job.conf"]
    assert read_job(made.folder).name == "mine"


def test_comments_of_the_template_survive(here: Path, plugins: Plugins) -> None:
    make(here / "mine", plugins, "rounds=10", "timeouts.stall=5 m")
    text = (here / "mine" / "job.conf").read_text()
    template = choose_template("sag_np", plugins).folder / "job.conf"
    comments = [line[line.index("#") :] for line in template.read_text().splitlines() if "#" in line]
    assert comments
    assert all(one in text for one in comments)
    assert read_job(here / "mine").rounds == 10
    assert read_job(here / "mine").timeouts.stall == 300.0


def test_a_name_that_is_given_comes_before_the_folders(here: Path, plugins: Plugins) -> None:
    make(here / "mine", plugins, "name=other")
    assert read_job(here / "mine").name == "other"


def test_a_folder_whose_name_no_job_can_have_keeps_the_templates(here: Path, plugins: Plugins) -> None:
    make(here / "my job", plugins)
    assert read_job(here / "my job").name == "sag_np"


def test_scripts_take_the_place_of_the_templates_code(here: Path, plugins: Plugins) -> None:
    folder = scripts(here / "src", "mine.py", "lib/more.py", "__pycache__/mine.cpython-311.pyc", "lib/old.pyc")
    make(here / "job", plugins, "script=mine.py", scripts=folder)
    found = {one.relative_to(here / "job").as_posix() for one in (here / "job").rglob("*") if one.is_file()}
    assert found == {"job.conf", "code/mine.py", "code/lib/more.py"}


@pytest.mark.parametrize(
    ("change", "workflow", "settings"),
    [
        ("workflow.order=random", "cyclic", {"order": "random"}),
        ("workflow_settings.order=random", "cyclic", {"order": "random"}),
        ("workflow.name=fedavg", "fedavg", {"order": "fixed"}),
        ("workflow=fedavg", "fedavg", {}),
    ],
)
def test_settings_of_a_workflow_are_found_in_either_spelling(
    here: Path, plugins: Plugins, change: str, workflow: str, settings: dict[str, str]
) -> None:
    if change == "workflow.name=fedavg":
        with pytest.raises(ConfigError, match=r"workflow\.fedavg\.order: no such setting"):
            make(here / "job", plugins, change, template="cyclic_np")
        return
    make(here / "job", plugins, change, template="cyclic_np")
    spec = read_job(here / "job")
    assert (spec.workflow, spec.workflow_settings) == (workflow, settings)


def test_settings_of_a_workflow_that_is_only_named_stand_beside_it(here: Path, plugins: Plugins) -> None:
    make(here / "job", plugins, "workflow.evaluate_final=false", "aggregator.name=mean")
    spec = read_job(here / "job")
    assert (spec.workflow, spec.workflow_settings, spec.aggregator) == ("fedavg", {"evaluate_final": False}, "mean")


def test_settings_files_of_the_code_can_be_changed_too(here: Path, plugins: Plugins) -> None:
    folder = scripts(here / "src", "train.py")
    (folder / "model.json").write_text('{"layers": {"first": 3}}')
    wanted = Wanted(
        here / "job",
        choose_template("sag_np", plugins),
        scripts=folder,
        changes=parse_changes([["code/model.json", "layers.first=5"]]),
    )
    create_job(wanted, plugins)
    assert settings_files(here / "job") == ["job.conf", "code/model.json"]
    assert read_file(here / "job" / "code" / "model.json") == {"layers": {"first": 5}}
    with pytest.raises(ConfigError, match=r"code/model.json: layers\.frist: no such setting") as caught:
        create_job(
            Wanted(here / "b", wanted.template, folder, parse_changes([["code/model.json", "layers.frist=5"]])), plugins
        )
    assert "layers.first" in caught.value.hint


# -- what is refused: nothing is left of it


@pytest.mark.row("C18")
@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        (["round=3"], r"job\.conf: round: no such setting", "'rounds'"),
        (["timeouts.stal=3"], r"job\.conf: timeouts\.stal: no such setting", "'stall'"),
        (["rounds=many"], r"job\.conf: rounds: Expected `int`", ""),
        (["rounds=0"], r"job\.conf: rounds must be between", ""),
        (["workflow.evaluate=false"], r"workflow\.fedavg\.evaluate: no such setting", "'evaluate_final'"),
        (["name.x=1"], "name.x: name is 'job', which has no settings", ""),
        (["script=other.py"], r"code/other\.py: no such file", "script=train.py"),
        (["cpus=2"], r"job\.conf: cpus: no such setting", ""),
    ],
)
def test_a_value_for_nothing_is_refused(
    here: Path, plugins: Plugins, changes: list[str], message: str, hint: str
) -> None:
    with pytest.raises(FlpocError, match=message) as caught:
        make(here / "job", plugins, *changes)
    assert caught.value.exit_status == 4
    assert hint in caught.value.hint
    assert str(here) not in caught.value.message
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rounds=3"], "the file is missing before 'rounds=3'"),
        (["job.conf"], "nothing to change"),
        (["job.conf", "rounds"], "'rounds' is not key=value"),
        (["job.conf", "rounds=1", "=2"], "'=2' is not key=value"),
    ],
)
def test_what_was_given_must_be_a_file_and_pairs(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_changes([words])


@pytest.mark.parametrize("file", ["config.conf", "../job.conf", "code/train.py", "/etc/passwd"])
def test_only_files_of_the_job_are_changed(here: Path, plugins: Plugins, file: str) -> None:
    with pytest.raises(UsageError, match="the job has no file"):
        create_job(
            Wanted(here / "j", choose_template("sag_np", plugins), changes=parse_changes([[file, "a=1"]])), plugins
        )
    assert list(here.iterdir()) == []


def test_a_missing_script_folder_is_refused(here: Path, plugins: Plugins) -> None:
    with pytest.raises(UsageError, match=r"-sd: .*: no such folder"):
        make(here / "job", plugins, scripts=here / "nowhere")
    with pytest.raises(UsageError, match=r"-sd: .*: not a folder"):
        make(here / "job", plugins, scripts=Path(__file__))


@pytest.mark.row("C18")
@pytest.mark.parametrize("inner", ["src", "src/jobs/job", "link/job"])
def test_a_job_folder_in_the_script_folder_is_refused(here: Path, plugins: Plugins, inner: str) -> None:
    folder = scripts(here / "src", "train.py")
    (here / "link").symlink_to(folder)
    with pytest.raises(UsageError, match="lies in the script folder"):
        make(here / inner, plugins, scripts=folder)
    assert [one.name for one in folder.iterdir()] == ["train.py"]


def test_a_job_folder_in_its_own_template_is_refused(here: Path, plugins: Plugins) -> None:
    make(here / "template", plugins)
    with pytest.raises(UsageError, match="lies in the template"):
        make(here / "template" / "code" / "job", plugins, template="./template")
    with pytest.raises(UsageError, match="lies in the template"):
        make(here / "template", plugins, template="./template", force=True)


@pytest.mark.parametrize("what", ["link", "pipe", "key"])
def test_what_no_job_may_carry_is_not_copied(here: Path, plugins: Plugins, what: str) -> None:
    folder = scripts(here / "src", "train.py")
    {
        "link": lambda: (folder / "x").symlink_to("/etc/passwd"),
        "pipe": lambda: os.mkfifo(folder / "x"),
        "key": lambda: (folder / "x.pem").write_text("-----BEGIN PRIVATE KEY-----\n"),
    }[what]()
    with pytest.raises(UsageError):
        make(here / "job", plugins, scripts=folder)
    assert [one.name for one in here.iterdir()] == ["src"]


def test_a_job_folder_that_is_a_file_is_refused(here: Path, plugins: Plugins) -> None:
    (here / "job").write_text("mine")
    for force in (False, True):
        with pytest.raises(UsageError, match="is a file"):
            make(here / "job", plugins, force=force)
    assert (here / "job").read_text() == "mine"


@pytest.mark.row("C18")
def test_a_folder_that_is_no_job_is_never_touched(here: Path, plugins: Plugins) -> None:
    (here / "job").mkdir()
    (here / "job" / "thesis.tex").write_text("years of work")
    for force in (False, True):
        with pytest.raises(UsageError, match="not empty, and it is no job"):
            make(here / "job", plugins, force=force)
    assert (here / "job" / "thesis.tex").read_text() == "years of work"


def test_an_empty_folder_is_filled_and_stays_the_same_folder(
    here: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "job").mkdir()
    before = (here / "job").stat().st_ino
    monkeypatch.chdir(here / "job")
    assert make(Path(), plugins).status == "created"
    assert (here / "job").stat().st_ino == before
    assert read_job(here / "job").name == "job"


@pytest.mark.parametrize("place", ["/proc/jobs", "file"])
def test_a_place_that_cannot_be_written_is_an_error(here: Path, plugins: Plugins, place: str) -> None:
    (here / "file").touch()
    with pytest.raises(FlpocError) as caught:
        make(here / place / "job", plugins)
    assert caught.value.code == "OUTPUT_DIR_NOT_WRITABLE"


# -- where a job is there


def test_a_configuration_is_left_as_it_is(here: Path, plugins: Plugins) -> None:
    make(here / "job", plugins)
    before = (here / "job" / "job.conf").read_bytes()
    made = make(here / "job", plugins, "rounds=77", template="cyclic_np")
    assert made.status == "kept"
    assert (here / "job" / "job.conf").read_bytes() == before
    assert "-force" in made.warnings[0]
    assert "-f was not written" in made.warnings[1]


def test_scripts_are_put_beside_a_configuration_that_stays(here: Path, plugins: Plugins) -> None:
    make(here / "job", plugins)
    made = make(here / "job", plugins, scripts=scripts(here / "src", "helper.py"))
    assert made.status == "kept"
    assert sorted(one.name for one in (here / "job" / "code").iterdir()) == ["helper.py", "train.py"]


def test_a_job_that_could_not_be_submitted_is_said_to_be_so(here: Path, plugins: Plugins) -> None:
    make(here / "job", plugins)
    (here / "job" / "job.conf").write_text("name = job\nscript = train.py\nround = 3\n")
    made = make(here / "job", plugins)
    assert "round: no such setting" in made.warnings[-1]


def test_force_replaces_job_file_and_code_and_leaves_the_rest(here: Path, plugins: Plugins) -> None:
    make(here / "job", plugins, scripts=scripts(here / "src", "train.py", "old.py"))
    (here / "job" / "notes.txt").write_text("mine")
    (here / "job" / "job.conf").rename(here / "job" / "job.json")
    made = make(here / "job", plugins, template="cyclic_np", force=True)
    assert made.status == "replaced"
    assert sorted(one.name for one in (here / "job").iterdir()) == ["code", "job.conf", "notes.txt"]
    assert [one.name for one in (here / "job" / "code").iterdir()] == ["train.py"]
    assert read_job(here / "job").workflow == "cyclic"


def test_a_job_stays_whole_where_its_successor_is_refused(here: Path, plugins: Plugins) -> None:
    make(here / "job", plugins)
    before = {one: one.read_bytes() for one in (here / "job").rglob("*") if one.is_file()}
    with pytest.raises(ConfigError):
        make(here / "job", plugins, "round=3", force=True)
    assert {one: one.read_bytes() for one in (here / "job").rglob("*") if one.is_file()} == before


def test_a_value_that_no_job_can_have_is_not_blamed_on_a_file_that_nobody_has(here: Path, plugins: Plugins) -> None:
    with pytest.raises(ConfigError) as refused:
        make(here / "job", plugins, "rounds=x")
    assert (refused.value.message, refused.value.hint) == (
        "job.conf: rounds: Expected `int`, got `str`", "no job was made; correct what is given with -f",
    )  # fmt: skip


def test_code_can_be_made_of_the_jobs_own(here: Path, plugins: Plugins) -> None:
    make(here / "job", plugins)
    (here / "job" / "code" / "train.py").write_text("# changed\n")
    make(here / "job", plugins, scripts=here / "job" / "code", force=True)
    assert (here / "job" / "code" / "train.py").read_text() == "# changed\n"


# -- which templates there are


def test_core_contributes_two(plugins: Plugins) -> None:
    found = {one.name: one for one in find_templates(plugins).found}
    assert {"sag_np", "cyclic_np"} <= set(found)
    assert found["cyclic_np"].info.controller_type == "cyclic"


@pytest.mark.parametrize(("name", "package"), [("sag_pt", "flpoc-framework-torch"), ("sag_tf", "flpoc-framework-tf")])
def test_one_that_is_not_installed_says_which_package_has_it(name: str, package: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose_template(name, Plugins.load(only=[]))
    assert package in caught.value.hint
    assert "sag_np" in caught.value.hint


@pytest.mark.row("C18")
def test_an_unknown_one_is_answered_with_the_likely_one(plugins: Plugins) -> None:
    with pytest.raises(UsageError) as caught:
        choose_template("sag_npp", plugins)
    assert "did you mean 'sag_np'" in caught.value.hint


def test_folders_in_a_folder_are_templates_and_come_before_plugins(here: Path, plugins: Plugins) -> None:
    own = here / "templates"
    make(own / "sag_np", plugins, "rounds=99")
    make(own / "special", plugins)
    (own / "special" / "info.conf").write_text('description = "mine" // not ours\ncontroller_type: fedavg')
    (own / "notes").mkdir()
    found = find_templates(plugins, own)
    assert found.warnings == ()
    assert found.get("special").info.description == "mine"
    assert choose_template("sag_np", plugins, own).folder == own / "sag_np"
    assert make(here / "job", plugins, template=str(own / "special")).status == "created"


def test_what_is_wrong_with_a_template_is_said_and_the_others_stay(here: Path, plugins: Plugins) -> None:
    own = here / "templates"
    make(own / "odd", plugins)
    (own / "odd" / "info.conf").write_text("descripton = mine")
    found = find_templates(plugins, own)
    assert len(found.warnings) == 1
    assert "descripton: no such setting" in found.warnings[0]
    assert found.get("odd").info.description == ""


@pytest.mark.parametrize("wanted", ["./nowhere", "./plain", ".", "/etc/passwd"])
def test_a_folder_that_is_no_template_is_refused(here: Path, plugins: Plugins, wanted: str) -> None:
    (here / "plain").mkdir()
    with pytest.raises(UsageError, match="-w"):
        choose_template(wanted, plugins)


def test_a_template_of_two_plugins_names_both() -> None:
    from flpoc.jobs.templates import Templates

    both = Templates((Template("x", Path("a"), plugin="one"), Template("x", Path("b"), plugin="two")), ())
    with pytest.raises(PluginError, match="one and two") as caught:
        both.get("x")
    assert caught.value.code == "PLUGIN_CONFLICT"


# -- variables


@pytest.mark.parametrize("template", ["sag_np", "cyclic_np"])
def test_every_variable_can_be_given_back_with_f(here: Path, plugins: Plugins, template: str) -> None:
    make(here / "job", plugins, template=template)
    before = read_job(here / "job")
    changes = [f"{row.variable}={row.text}" for row in variables_of(here / "job", plugins)]
    make(here / "job", plugins, *changes, template=template, force=True)
    after = read_job(here / "job")
    written = {  # with defaults written out
        key: {**getattr(before, key), **getattr(after, key)} for key in ("workflow_settings", "aggregator_settings")
    }
    assert after == attrs.evolve(before, **written)


def test_variables_say_whose_they_are_and_whether_the_file_has_them(here: Path, plugins: Plugins) -> None:
    make(here / "job", plugins, template="cyclic_np")
    found = {one.variable: one for one in variables_of(here / "job", plugins)}
    assert (found["rounds"].value, found["rounds"].component, found["rounds"].written) == (5, "job", True)
    assert (found["workflow.order"].value, found["workflow.order"].component) == ("fixed", "cyclic")
    assert found["workflow.evaluate_final"].written is False
    assert (found["timeouts.stall"].value, found["timeouts.stall"].written) == (600.0, False)
    assert found["script"].component == "script"


def test_variables_of_sites_are_those_that_differ(here: Path, plugins: Plugins) -> None:
    make(here / "job", plugins)
    more = 'needs { cpus = 2 }\nenv { A = "1" }\nscripts { site-2 { args = [x], needs { memory_gib = 4 } } }\n'
    with (here / "job" / "job.conf").open("a") as file:
        file.write(more)
    found = {one.variable: one for one in variables_of(here / "job", plugins)}
    assert found["needs.cpus"].value == 2.0
    assert found["env.A"].value == "1"
    assert found["scripts.site-2.args"].component == "site-2"
    assert found["scripts.site-2.needs.memory_gib"].value == 4.0
    assert "scripts.site-2.script" not in found
