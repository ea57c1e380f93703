"""Job folders: found, read, and what of them is sent."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from flpoc.errors import ConfigError, IntegrityError, JobError, ResourceError, UsageError
from flpoc.filtering import FilterSpec
from flpoc.jobs import contents
from flpoc.jobs.archive import unpack
from flpoc.jobs.folder import collect_and_pack, collect_files, find_job_folder, read_job
from flpoc.jobs.paths import Limits
from flpoc.jobs.spec import JobSpec, ScriptSpec
from flpoc.settings import canonical_json, parse_json, plain, structure
from flpoc.tracking import TrackerSpec

SHORT = 'name = demo\nscript = "train.py"\n'


def make(folder: Path, job: str = SHORT, files: dict[str, str | bytes] | None = None, name: str = "job.conf") -> Path:
    (folder / "code").mkdir(parents=True)
    (folder / name).write_text(job)
    for path, content in {"code/train.py": "print(1)\n", **(files or {})}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


class TestFinding:
    @pytest.mark.parametrize("name", ["job.conf", "job.json", "job.yml", "job.yaml"])
    def test_a_folder_with_a_job_file_is_the_job(self, tmp_path: Path, name: str) -> None:
        make(tmp_path / "job", name=name)
        assert find_job_folder(tmp_path / "job") == (tmp_path / "job", "")

    def test_else_the_only_visible_folder_in_it_that_has_one(self, tmp_path: Path) -> None:
        make(tmp_path / "demo")
        make(tmp_path / ".hidden")
        (tmp_path / "data").mkdir()
        found, note = find_job_folder(tmp_path)
        assert found == tmp_path / "demo"
        assert "demo" in note

    @pytest.mark.row("J1")
    def test_two_jobs_in_a_folder_are_not_guessed(self, tmp_path: Path) -> None:
        make(tmp_path / "one")
        make(tmp_path / "two")
        with pytest.raises(UsageError, match="one, two"):
            find_job_folder(tmp_path)

    @pytest.mark.row("J1")
    def test_two_job_files_are_refused(self, tmp_path: Path) -> None:
        make(tmp_path / "job")
        (tmp_path / "job" / "job.yml").write_text("name: other")
        with pytest.raises(UsageError, match=r"job\.conf and job\.yml"):
            find_job_folder(tmp_path / "job")

    @pytest.mark.parametrize("where", ["", "hello"])
    def test_a_job_of_another_framework_is_told_what_to_do(self, tmp_path: Path, where: str) -> None:
        (tmp_path / where / "app" / "config").mkdir(parents=True)
        (tmp_path / where / "meta.json").write_text("{}")
        with pytest.raises(JobError) as refusal:
            find_job_folder(tmp_path)
        assert refusal.value.code == "JOB_INVALID"
        assert "recipe" in refusal.value.hint

    @pytest.mark.row("J1")
    @pytest.mark.parametrize("what", ["missing", "file", "empty"])
    def test_what_is_no_job_folder_is_a_usage_error(self, tmp_path: Path, what: str) -> None:
        (tmp_path / "file").write_text("x")
        (tmp_path / "empty").mkdir()
        with pytest.raises(UsageError) as refusal:
            find_job_folder(tmp_path / what)
        assert refusal.value.exit_status == 4
        assert refusal.value.hint


class TestReading:
    def test_the_short_form_is_enough(self, tmp_path: Path) -> None:
        spec = read_job(make(tmp_path / "job"))
        assert spec == JobSpec(name="demo", scripts={"@default": ScriptSpec("train.py")})

    def test_the_short_form_says_everything_about_a_script(self, tmp_path: Path) -> None:
        job = """
            name = demo
            script = train.py
            args = "--name 'two words' -v"
            command = [torchrun, "--nproc_per_node=2"]
            env { LEVEL = debug }
            needs { cpus = 2, memory_gib = 1.5, gpus = 1 }
            sites = [site-1, site-2]
        """
        spec = read_job(make(tmp_path / "job", job))
        assert spec.sites == ("site-1", "site-2")
        assert spec.script_for("site-2") == ScriptSpec(
            "train.py",
            ("--name", "two words", "-v"),
            ("torchrun", "--nproc_per_node=2"),
            {"LEVEL": "debug"},
            cpus=2,
            memory_gib=1.5,
            gpus=1,
        )

    def test_a_site_says_only_what_is_different(self, tmp_path: Path) -> None:
        job = SHORT + 'args = "--lr 1"\nscripts { site-2 { args = "--lr 2", needs { cpus = 4 } } }'
        spec = read_job(make(tmp_path / "job", job))
        assert spec.script_for("site-1") == ScriptSpec("train.py", ("--lr", "1"))
        assert spec.script_for("site-2") == ScriptSpec("train.py", ("--lr", "2"), cpus=4)

    def test_workflow_and_aggregator_are_names_or_names_with_settings(self, tmp_path: Path) -> None:
        job = SHORT + "workflow { name = cyclic, order = random }\naggregator = median\nrounds = 7"
        spec = read_job(make(tmp_path / "job", job))
        assert (spec.workflow, spec.workflow_settings, spec.rounds) == ("cyclic", {"order": "random"}, 7)
        assert (spec.aggregator, spec.aggregator_settings) == ("median", {})

    def test_filters_are_names_or_names_with_settings(self, tmp_path: Path) -> None:
        job = SHORT + "filters = [noise, {name = clip, settings {norm = 3}}, noise]"
        found = read_job(make(tmp_path / "job", job)).filters
        assert found == (FilterSpec("noise"), FilterSpec("clip", {"norm": 3}), FilterSpec("noise"))

    @pytest.mark.parametrize("value", ["noise", "[{nmae = noise}]", "[3]"])
    def test_a_filter_that_cannot_be_read_is_refused(self, tmp_path: Path, value: str) -> None:
        with pytest.raises(ConfigError, match="filters"):
            read_job(make(tmp_path / "job", SHORT + f"filters = {value}"))

    def test_a_cipher_is_refused_by_whoever_reads_the_job(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="encryption: 'ckks' cannot be had"):
            read_job(make(tmp_path / "job", SHORT + "encryption = ckks"))
        spec = plain(read_job(make(tmp_path / "plain")))
        with pytest.raises(ConfigError, match="encryption: 'ckks' cannot be had"):
            structure(spec | {"encryption": "ckks"}, JobSpec)

    def test_trackers_are_names_or_names_with_settings(self, tmp_path: Path) -> None:
        job = SHORT + "tracking = [mlflow, {name = paper, settings {size = 3}}]"
        found = read_job(make(tmp_path / "job", job)).tracking
        assert found == (TrackerSpec("mlflow"), TrackerSpec("paper", {"size": 3}))

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            ("mlflow", "tracking: is not a list"),
            ("[{nmae = mlflow}]", "tracking[0].nmae: no such setting"),
            ("[a, {settings {size = 3}}]", "tracking[1]: "),
            ("[mlflow, {name = mlflow}]", "tracking: one is named twice"),
            ("[{name = a, settings {size = 99999999999999999999}}]", "must fit into 64 bits"),
            ("[3]", "tracking[0]: "),
        ],
    )
    def test_a_tracker_that_cannot_be_read_is_named(self, tmp_path: Path, value: str, said: str) -> None:
        with pytest.raises(ConfigError) as refusal:
            read_job(make(tmp_path / "job", SHORT + f"tracking = {value}"))
        assert said in refusal.value.message

    def test_settings_without_a_name_are_those_of_the_usual_one(self, tmp_path: Path) -> None:
        spec = read_job(make(tmp_path / "job", SHORT + "workflow { fraction = 0.5 }"))
        assert (spec.workflow, spec.workflow_settings) == ("fedavg", {"fraction": 0.5})

    @pytest.mark.parametrize(
        ("name", "job"),
        [
            ("job.json", '{"name": "demo", "script": "train.py", "timeouts": {"stall": 60}}'),
            ("job.yml", "name: demo\nscript: train.py\ntimeouts:\n  stall: 60\n"),
            ("job.conf", "name = demo\nscript = train.py\ntimeouts.stall = 1 minute\n"),
        ],
    )
    def test_json_yaml_and_hocon_say_the_same(self, tmp_path: Path, name: str, job: str) -> None:
        spec = read_job(make(tmp_path / "job", job, name=name))
        assert (spec.name, spec.timeouts.stall) == ("demo", 60.0)

    def test_the_complete_form_is_a_job_file_too(self, tmp_path: Path) -> None:
        spec = read_job(make(tmp_path / "job", SHORT + "workflow { name = fedavg, a = 1 }\nsites = [a, b]"))
        written = canonical_json(spec)
        assert read_job(make(tmp_path / "again", written.decode(), name="job.json")) == spec
        assert structure(parse_json(written, ""), JobSpec) == spec

    @pytest.mark.row("G2", "G13", "G14")
    @pytest.mark.parametrize(
        ("job", "said", "hint"),
        [
            (SHORT + "nmae = x", "nmae: no such setting", "'name'"),
            (SHORT + "arg = x", "arg: no such setting", "'args'"),
            (SHORT + "need { cpus = 1 }", "need: no such setting", "'needs'"),
            (SHORT + "needs { cpu = 1 }", "needs.cpu: no such setting", "'cpus'"),
            (SHORT + "needs { cpus = 0 }", "cpus must be greater than 0", ""),
            (SHORT + "needs = 3", "needs: is not", "needs {"),
            (SHORT + "scripts { site-1 { agrs = x } }", "scripts.site-1.agrs: no such setting", "'args'"),
            (SHORT + "scripts { site-1 { cpus = 1, needs { cpus = 2 } } }", "scripts.site-1.cpus: given twice", ""),
            (SHORT + 'scripts { "@default" { script = a.py } }', "scripts.@default: given twice", "one place"),
            (SHORT + "scripts = 5", "scripts: is not", ""),
            (SHORT + 'scripts { "-x" { args = a } }', "'-x' is not a site name", ""),
            (SHORT + "env { LEVEL = 3 }", ": env.LEVEL: 3 is not text", "quotes"),
            (SHORT + "args = [1]", ": args[0]: Expected `str`", "quotes"),
            (SHORT + 'args = "it\'s"', "args: No closing quotation", "list"),
            (SHORT + "rounds = many", "rounds: Expected `int`", ""),
            (SHORT + "rounds = 0", "rounds must be between", ""),
            (SHORT + "timeouts { stall = -1 }", "stall must be greater than 0", ""),
            (SHORT + "timeouts { stal = 1 }", "timeouts.stal: no such setting", "'stall'"),
            (SHORT + "workflow { rounds = 3 }", "workflow.rounds: no such setting", "top level"),
            (SHORT + "workflow { a = 3 }\nworkflow_settings { b = 1 }", "workflow_settings: given twice", ""),
            (SHORT + "sites = [a, A]", "named twice", ""),
            (SHORT + "min_clients = 3\nsites = [a]", "min_clients is 3", ""),
            (SHORT + 'include "other.conf"', "include is not allowed", ""),
            ("name = demo", "script: is missing", "train.py"),
            ("name = demo\nscripts { site-1 { args = a } }", "scripts.site-1.script: is missing", "train.py"),
            ("script = train.py", "name: is missing", "name ="),
            ('name = "bad name"\nscript = train.py', "'bad name' is not a job name", ""),
            ("name = demo\nscript = [a]", "script: Expected `str`", ""),
            ("[1, 2]", "is not a set of settings", ""),
        ],
    )
    def test_what_is_wrong_is_said_with_file_and_key(self, tmp_path: Path, job: str, said: str, hint: str) -> None:
        with pytest.raises(ConfigError) as refusal:
            read_job(make(tmp_path / "job", job))
        assert str(tmp_path / "job" / "job.conf") in refusal.value.message
        assert said in refusal.value.message
        assert hint in refusal.value.hint
        assert refusal.value.exit_status == 4

    @pytest.mark.row("J2")
    def test_all_problems_of_the_code_come_in_one_list(self, tmp_path: Path) -> None:
        job = (
            SHORT
            + 'initial_model = start.safetensors\nscripts { a { script = gone.py }, b { script = "../job.conf" } }'
        )
        with pytest.raises(ConfigError) as refusal:
            read_job(make(tmp_path / "job", job, {"code/train.py": "def f(:\n"}))
        problems = refusal.value.data["problems"]
        assert len(problems) == 4
        for said in ("code/gone.py: no such file", "not a path below", "code/train.py: line 1", "start.safetensors"):
            assert any(said in problem for problem in problems), said
            assert said in refusal.value.message

    @pytest.mark.row("J3")
    def test_a_syntax_error_in_an_imported_module_is_found(self, tmp_path: Path) -> None:
        files = {"code/train.py": "import pkg.deep\nimport os\n", "code/pkg/deep.py": "x = = 1\n"}
        with pytest.raises(ConfigError, match=r"code/pkg/deep\.py: line 1"):
            read_job(make(tmp_path / "job", files=files))

    def test_a_broken_file_that_nobody_imports_does_not_matter(self, tmp_path: Path) -> None:
        read_job(make(tmp_path / "job", files={"code/template.py": "{{ name }} = = 1\n"}))

    @pytest.mark.row("J3")
    def test_nothing_of_the_code_is_run(self, tmp_path: Path) -> None:
        evil = f"open({str(tmp_path / 'ran')!r}, 'w')\nimport model\n"
        read_job(make(tmp_path / "job", files={"code/train.py": evil, "code/model.py": evil}))
        assert not (tmp_path / "ran").exists()
        assert not (tmp_path / "job" / "code" / "__pycache__").exists()

    @pytest.mark.row("J3")
    @pytest.mark.parametrize(
        "script", [b"\0", b"# coding: nonsense\n", b"\xff\xfe", b"(" * 5000, b"x=" + b"-" * 100_000 + b"1"]
    )
    def test_scripts_that_cannot_be_compiled_in_odd_ways_are_refused(self, tmp_path: Path, script: bytes) -> None:
        with pytest.raises(ConfigError, match=r"code/train\.py"):
            read_job(make(tmp_path / "job", files={"code/train.py": script}))

    def test_a_script_in_another_language_is_not_compiled(self, tmp_path: Path) -> None:
        job = "name = demo\nscript = run.sh\ncommand = bash"
        assert read_job(make(tmp_path / "job", job, {"code/run.sh": "if true; fi"})).scripts["@default"].command == (
            "bash",
        )

    @pytest.mark.row("J10")
    def test_a_linked_script_is_refused(self, tmp_path: Path) -> None:
        make(tmp_path / "job")
        (tmp_path / "job" / "code" / "other.py").symlink_to("train.py")
        (tmp_path / "job" / "job.conf").write_text("name = demo\nscript = other.py")
        with pytest.raises(ConfigError, match="a link"):
            read_job(tmp_path / "job")


class TestCollecting:
    def test_files_are_listed_with_size_and_hash_in_order(self, tmp_path: Path) -> None:
        make(tmp_path / "job", files={"code/b/a.py": "x", "code/z.txt": ""})
        files, notices = collect_files(tmp_path / "job")
        assert [file.path for file in files] == ["code/b/a.py", "code/train.py", "code/z.txt"]
        assert files[0].sha256 == hashlib.sha256(b"x").hexdigest()
        assert [file.size for file in files] == [1, 9, 0]
        assert notices == ()

    @pytest.mark.row("J9")
    def test_what_nobody_needs_is_left_out_and_said(self, tmp_path: Path) -> None:
        left = ["code/__pycache__/a.pyc", "code/.git/config", "code/pkg/.env", "code/.venv/bin/python", "code/old.pyc"]
        make(tmp_path / "job", files=dict.fromkeys(left, "x"))
        (tmp_path / "job" / "code" / ".venv" / "link").symlink_to("/")
        files, notices = collect_files(tmp_path / "job")
        assert [file.path for file in files] == ["code/train.py"]
        for path in ("code/__pycache__", "code/.git", "code/pkg/.env", "code/.venv", "code/old.pyc"):
            assert path in notices[0]

    @pytest.mark.row("J10")
    @pytest.mark.parametrize("what", ["link", "folder link", "dangling link", "pipe", "socket"])
    def test_what_is_no_file_is_refused(self, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
        odd = make(tmp_path / "job") / "code" / "odd"
        if what == "pipe":
            os.mkfifo(odd)
        elif what == "socket":
            monkeypatch.chdir(odd.parent)
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind("odd")
        else:
            odd.symlink_to({"link": "train.py", "folder link": "/etc", "dangling link": "nowhere"}[what])
        with pytest.raises(UsageError, match=f"odd: a {what.rsplit(maxsplit=1)[-1]}"):
            collect_files(tmp_path / "job")

    @pytest.mark.row("J10")
    def test_code_itself_must_not_be_a_link(self, tmp_path: Path) -> None:
        make(tmp_path / "real")
        (tmp_path / "job").mkdir()
        (tmp_path / "job" / "code").symlink_to(tmp_path / "real" / "code")
        with pytest.raises(UsageError, match="a link"):
            collect_files(tmp_path / "job")

    @pytest.mark.row("J9")
    @pytest.mark.parametrize("name", ["client.key", "CA.PEM"])
    def test_a_private_key_is_refused(self, tmp_path: Path, name: str) -> None:
        make(tmp_path / "job", files={f"code/{name}": "-----BEGIN EC PRIVATE KEY-----\nxyz\n"})
        with pytest.raises(UsageError, match="private key"):
            collect_files(tmp_path / "job")

    def test_a_certificate_may_be_sent(self, tmp_path: Path) -> None:
        make(tmp_path / "job", files={"code/ca.pem": "-----BEGIN CERTIFICATE-----\n"})
        assert len(collect_files(tmp_path / "job")[0]) == 2

    @pytest.mark.row("J15")
    @pytest.mark.parametrize("name", [b"a\nb", b"\xff\xfe", b"trailing.", b"CON", b"back\\slash"])
    def test_names_that_do_not_work_everywhere_are_refused(self, tmp_path: Path, name: bytes) -> None:
        make(tmp_path / "job")
        with open(os.fsencode(tmp_path / "job" / "code") + b"/" + name, "w"):
            pass
        with pytest.raises(IntegrityError):
            collect_files(tmp_path / "job")

    def test_names_that_differ_only_in_case_are_refused(self, tmp_path: Path) -> None:
        make(tmp_path / "job", files={"code/Data.csv": "1", "code/data.csv": "2"})
        with pytest.raises(IntegrityError, match="same file"):
            collect_files(tmp_path / "job")

    @pytest.mark.row("J8")
    @pytest.mark.parametrize(
        ("limits", "said"), [(Limits(files=3), "3 files"), (Limits(total=100), "100 bytes"), (Limits(depth=2), "2 are")]
    )
    def test_a_limit_that_is_passed_is_named(self, tmp_path: Path, limits: Limits, said: str) -> None:
        make(tmp_path / "job", files={f"code/d/{n}": "x" * 30 for n in range(4)})
        with pytest.raises(ResourceError, match=said):
            collect_files(tmp_path / "job", limits=limits)

    @pytest.mark.row("J8")
    def test_a_very_large_file_is_refused_without_reading_it(self, tmp_path: Path) -> None:
        make(tmp_path / "job")
        with (tmp_path / "job" / "code" / "big").open("wb") as file:
            file.truncate(10 << 30)
        with pytest.raises(ResourceError, match="bytes"):
            collect_files(tmp_path / "job")

    @pytest.mark.row("J11")
    def test_a_file_that_keeps_changing_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        make(tmp_path / "job")
        _change_while_hashing(monkeypatch, tmp_path / "job" / "code" / "train.py", times=99)
        with pytest.raises(IntegrityError, match="changes while"):
            collect_files(tmp_path / "job")

    @pytest.mark.row("J11")
    def test_a_file_that_changes_once_is_read_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        make(tmp_path / "job")
        _change_while_hashing(monkeypatch, tmp_path / "job" / "code" / "train.py", times=1)
        [file], _ = collect_files(tmp_path / "job")
        content = (tmp_path / "job" / "code" / "train.py").read_bytes()
        assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())

    def test_what_is_collected_can_be_unpacked(self, tmp_path: Path) -> None:
        make(tmp_path / "job", files={"code/zeros": b"\0" * 1_000_000, "code/pkg/a.py": "a"})
        files, _ = collect_and_pack(tmp_path / "job", tmp_path / "job.zip")
        unpack(tmp_path / "job.zip", tmp_path / "into", files)
        assert (tmp_path / "into" / "code" / "pkg" / "a.py").read_text() == "a"


def _change_while_hashing(monkeypatch: pytest.MonkeyPatch, path: Path, times: int) -> None:
    """Something appends to *path* while its hash is taken."""
    real = contents.sha256_file
    left = [times]

    def hashing(fd: Any) -> str:
        found = real(fd)
        if left[0]:
            left[0] -= 1
            with path.open("a") as file:
                file.write("# more\n")
        return found

    monkeypatch.setattr(contents, "sha256_file", hashing)


def test_a_job_file_may_be_what_a_program_writes(tmp_path: Path) -> None:
    job = {"name": "demo", "script": "train.py", "args": ["--lr", "0.1"], "sites": ["a"], "needs": {"gpus": 1}}
    spec = read_job(make(tmp_path / "job", json.dumps(job), name="job.json"))
    assert spec.scripts == {"@default": ScriptSpec("train.py", ("--lr", "0.1"), gpus=1)}
