"""What scripts of simulated sites can do besides training: keep things, get data, log, be run by others."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from flpoc.errors import JobError
from flpoc.jobs.secrets import secret_file_ref, secret_ref
from flpoc.simulate import run

WAYS: dict[str, dict[str, Any]] = {"own": {"workers": 3}, "shared": {"workers": 2}, "here": {"in_process": True}}
ways = pytest.mark.parametrize("how", WAYS.values(), ids=WAYS)
COUNTS = """
    kept = flare.state_dir() / "count"
    count = int(kept.read_text()) + 1 if kept.exists() else 1
    kept.write_text(str(count))
    flare.log("count", count)
"""


def counted(outcome: Any) -> list[tuple[str, int, float]]:
    lines = (outcome.results / "site_metrics.jsonl").read_text().splitlines()
    return sorted((one["site"], one["round"], one["value"]) for one in map(json.loads, lines))


@ways
def test_what_a_script_keeps_is_there_in_the_next_round(simulation, how):
    outcome = simulation.run(COUNTS, how=how)
    assert counted(outcome) == [(f"site-{site}", number, number + 1) for site in (1, 2, 3) for number in (0, 1, 2)]


@pytest.mark.parametrize("how", [WAYS["own"], WAYS["shared"]], ids=["own", "shared"])
def test_what_was_kept_without_an_answer_is_not(simulation, how):
    once = str(simulation.folder / "once")
    body = f"""
        {COUNTS.strip().replace(chr(10), chr(10) + "    ")}
        if number == 1 and site == 'site-2' and not os.path.exists({once!r}):
            open({once!r}, 'w').close()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    outcome = simulation.run(body, how=how)
    assert outcome.cause is None
    assert {value for _, number, value in counted(outcome) if number == 2} == {3}


@ways
def test_a_script_gets_the_data_that_it_names(simulation, how):
    (simulation.folder / "data.txt").write_text("seven")
    body = "assert open(flare.get_dataset('numbers')).read() == 'seven'"
    outcome = simulation.run(body, rounds=1, how={**how, "datasets": {"numbers": simulation.folder / "data.txt"}})
    assert outcome.cause is None


@ways
def test_what_is_sent_can_be_a_change(simulation, how):
    scripts = {"@default": {"script": "train.py", "transfer_type": "DIFF"}}
    folder = simulation.write(scripts=scripts)
    data = json.loads((folder / "job.json").read_text())
    del data["script"]
    (folder / "job.json").write_text(json.dumps(data))
    outcome = run(folder, sites=["site-1", "site-2", "site-3"], workspace=simulation.root, **how)
    assert outcome.cause is None


@ways
def test_a_script_gets_secrets_of_the_place_where_it_is_simulated(simulation, monkeypatch, how):
    (simulation.folder / "token").write_text("f-2\n")
    monkeypatch.setenv("TOKEN", "t-1")
    named = [secret_ref("TOKEN"), secret_file_ref(str(simulation.folder / "token"))]
    body = """
        assert sys.argv[1:] == ["t-1", "f-2"], sys.argv
        assert flare.get_config()["both"] == "t-1 f-2"
    """
    folder = simulation.write(body, scripts={"@default": {"script": "train.py", "args": named}})
    said = json.loads((folder / "job.json").read_text())
    del said["script"]
    (folder / "job.json").write_text(json.dumps(said))
    config = {"client": {"@default": {"both": " ".join(named)}}}
    (folder / "code" / "flpoc_config.json").write_text(json.dumps(config))
    outcome = run(folder, sites=["site-1", "site-2", "site-3"], workspace=simulation.root, **how)
    assert outcome.cause is None
    monkeypatch.delenv("TOKEN")
    with pytest.raises(JobError, match="there is no secret 'TOKEN' here"):
        run(folder, sites=["site-1", "site-2", "site-3"], workspace=simulation.root, **how)


@pytest.mark.parametrize("sites", [3, 70])
def test_a_site_without_a_model_of_its_own_is_not_waited_for(simulation, sites):
    body = """
        if flare.is_evaluate():
            flare.send(flare.FLModel(metrics={"mean": float(model.params["w"].mean())}))
            continue
        if flare.is_submit_model():
            if site == "site-2":
                flare.send(flare.FLModel(params={"w": np.full(50, 2.0)}))
            continue
    """
    outcome = simulation.run(body, sites=sites, how={"workers": 2}, workflow="cross_site_evaluation", rounds=1)
    assert outcome.cause is None
    found = json.loads((outcome.results / "cross_site_val" / "cross_val_results.json").read_text())
    assert found == {f"site-{site}": {"site-2": {"mean": 2.0}} for site in range(1, sites + 1)}


@pytest.mark.parametrize("how", [WAYS["own"], WAYS["shared"]], ids=["own", "shared"])
def test_a_program_of_the_jobs_choice_runs_the_script(simulation, how):
    plain = simulation.sha256(simulation.run(COUNTS))
    outcome = simulation.run(COUNTS + "    print(sys.flags.dev_mode)", how=how, command=[sys.executable, "-X", "dev"])
    assert outcome.cause is None
    assert simulation.sha256(outcome) == plain
    assert "True" in (outcome.results / "logs" / "site-1.log").read_text()
    failed = simulation.run("if site == 'site-2': sys.exit(5)", how=how, command=[sys.executable])
    assert failed.cause.lines()[0] == "site-2 (training, round 1): ended with exit code 5"


def test_the_level_of_logs_is_said_by_a_word_or_a_file(simulation, tmp_path: Path):
    body = "import logging; logging.getLogger('mine').debug('a detail of %s', site)"
    log = Path("logs") / "site-2.log"
    outcome = simulation.run(body, rounds=1, how={"log_config": "msg_only"})
    assert not (outcome.results / log).exists()
    outcome = simulation.run(body, rounds=1, how={"log_config": "debug"})
    assert "DEBUG mine a detail of site-2" in (outcome.results / log).read_text()
    settings = {
        "formatters": {"f": {"format": "<%(message)s>"}},
        "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f"}},
        "root": {"level": "DEBUG", "handlers": ["h"]},
    }
    (tmp_path / "logging.json").write_text(json.dumps(settings))
    outcome = simulation.run(body, rounds=1, how={"log_config": str(tmp_path / "logging.json")})
    assert (outcome.results / log).read_text() == "<a detail of site-2>\n"


@ways
def test_a_module_that_cannot_be_imported_is_the_scripts_failure(simulation, how):
    outcome = simulation.run(script="import json\nimport no_such_module\n", how=how)
    assert outcome.cause.lines()[0].endswith("ModuleNotFoundError: No module named 'no_such_module'")
    assert outcome.cause.hint == "install 'no_such_module' where the script runs"
    assert outcome.cause.file == "train.py"
