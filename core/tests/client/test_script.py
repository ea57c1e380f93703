"""A script's part in a job, with an owner in the same process."""

from __future__ import annotations

import contextlib
import gc
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flpoc.client as flare
from flpoc.client import api
from flpoc.errors import UsageError
from flpoc.models.tensors import narrow
from flpoc.wire.trainer_messages import Over

ONES = np.ones(2, np.float32)


def received() -> flare.FLModel:
    found = flare.receive()
    assert found is not None
    return found


def answer(value: float = 1.0, **more: Any) -> flare.FLModel:
    return flare.FLModel(params={"w": np.full(2, value, np.float32)}, **more)


def test_a_script_runs_in_the_process_of_its_owner_once_for_each_task(owner: Any) -> None:
    owner.script(owner.give(3, w=ONES), owner.give(4, w=ONES))
    flare.init()
    rounds = []
    while flare.is_running():
        model = received()
        assert model is flare.receive()
        rounds.append(model.current_round)
        flare.log("loss", 0.5)
        flare.send(flare.FLModel(params={"w": model.params["w"] + model.current_round}, metrics={"accuracy": 0.5}))
    assert rounds == [3, 4]
    assert [owner.answer(one)["w"].tolist() for one in rounds] == [[4, 4], [5, 5]]
    assert [(one.round, one.metrics) for one in owner.submitted] == [(3, {"accuracy": 0.5}), (4, {"accuracy": 0.5})]
    assert [row.key for one in owner.logged for row in one.rows] == ["loss", "loss"]
    assert flare.receive() is None


def test_a_script_that_is_started_for_every_task_is_running_once(owner: Any) -> None:
    owner.script(owner.give(0, w=ONES), owner.give(1, w=ONES), once=False)
    rounds = []
    while flare.is_running():
        rounds.append(received().current_round)
        flare.send(answer())
    assert rounds == [0]
    assert flare.receive() is None


def test_a_start_for_one_task_that_was_closed_meanwhile_ends_without_an_answer(
    owner: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    script = owner.script(owner.give(0, w=ONES), once=False)
    assert received().current_round == 0
    script.take(owner.give(1, w=ONES))
    flare.send(answer())
    assert not flare.is_running()
    assert owner.submitted == []
    assert "round 1 was closed without this site" in capsys.readouterr().err


def test_the_received_model_stays_until_it_is_let_go_if_it_is_not_cleared(owner: Any) -> None:
    owner.script(owner.give(0, w=ONES), owner.give(1, w=ONES), owner.give(2, w=ONES))
    model = received()
    flare.send(answer(), clear_cache=False)
    assert flare.receive() is model
    with pytest.raises(UsageError, match="round 1 is answered already"):
        flare.send(answer())
    flare.clear()
    assert received().current_round == 1
    flare.send(answer(), clear_cache=False)
    assert flare.is_running()
    assert received().current_round == 2


def test_an_unanswered_task_stays_when_its_model_is_let_go(owner: Any) -> None:
    owner.script(owner.give(0, w=ONES))
    received().params["w"] += 5
    flare.clear()
    assert received().params["w"].tolist() == [1, 1]


def test_a_model_that_is_deleted_after_the_task_was_taken_up_can_still_be_received(owner: Any) -> None:
    owner.script(owner.give(0, w=ONES))
    assert flare.is_running()
    (owner.folder / "0.safetensors").unlink()
    assert received().params["w"].tolist() == [1, 1]


def test_a_task_whose_model_is_gone_gives_way_to_the_next(owner: Any) -> None:
    given = owner.give(0, w=ONES)
    script = owner.script(given)
    Path(given.path).unlink()
    script.take(owner.give(1, w=ONES))
    assert received().current_round == 1


def test_no_descriptor_of_a_model_is_left(owner: Any) -> None:
    def models() -> list[str]:
        """Of all that this process has open, and may just be closing, the files of this test."""
        gc.collect()
        found = []
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(f"/proc/self/fd/{number}"))
        return [one for one in found if one.startswith(str(owner.folder))]

    owner.script(*(owner.give(number, w=ONES) for number in range(3)), transfer_type="DIFF")
    while flare.is_running():
        flare.send(flare.FLModel(params=received().params))
    assert models() == []
    owner.script(owner.give(0, w=ONES))
    received()
    flare.shutdown()
    assert models() == []


def test_after_shutdown_there_is_no_task_and_the_owner_is_told(owner: Any) -> None:
    owner.script(owner.give(0, w=ONES), owner.give(1, w=ONES))
    received()
    flare.send(answer())
    flare.shutdown()
    assert owner.closed
    assert not flare.is_running()
    assert flare.receive() is None
    flare.shutdown()
    with pytest.raises(UsageError, match="without a task"):
        flare.send(answer())


def test_the_three_kinds_of_task_are_told_apart_and_asking_says_what_is_handled(owner: Any) -> None:
    owner.script(owner.give(0, "evaluate", w=ONES), owner.give(1, "submit_model"), owner.give(2, w=ONES))
    kinds = []
    while flare.is_running():
        kinds.append((flare.get_task_name(), flare.is_train(), flare.is_evaluate()))
        if flare.is_evaluate():
            flare.send(flare.FLModel(metrics={"accuracy": 1.0}))
        elif flare.get_task_name() == "submit_model":
            assert flare.is_submit_model()
            flare.send(answer())
        else:
            flare.send(answer())
    assert kinds == [("evaluate", False, True), ("submit_model", False, False), ("train", True, False)]
    assert [(one.evaluates, one.submits) for one in owner.submitted] == [(True, True)] * 3
    assert flare.get_task_name() == ""


def test_what_a_function_would_have_asked_next_is_handled_too(owner: Any) -> None:
    def training_first() -> None:
        if flare.is_train():
            flare.send(answer())
        elif flare.is_evaluate():
            flare.send(flare.FLModel(metrics={"accuracy": 1.0}))

    def only_training() -> None:
        assert flare.is_train()
        flare.send(answer())

    owner.script(owner.give(0, w=ONES))
    only_training()
    owner.script(owner.give(1, w=ONES))
    training_first()
    assert [(one.evaluates, one.submits) for one in owner.submitted] == [(False, False), (True, False)]


def test_a_site_without_a_model_of_its_own_says_so_at_once_by_going_on(owner: Any, capsys: Any) -> None:
    owner.script(owner.give(0, "submit_model", w=ONES), owner.give(1, "evaluate", w=ONES))
    asked = 0
    while flare.is_running():
        if flare.is_submit_model():
            asked += 1
        elif flare.is_evaluate():
            flare.send(flare.FLModel(metrics={"accuracy": 1.0}))
    assert asked == 1
    assert [(one.kind, one.submits) for one in owner.submitted] == [("submit_model", True), ("evaluate", True)]
    assert owner.answer(0) == {}
    assert "round 1: this site has no model of its own" in capsys.readouterr().err


def test_optimizer_params_stay_and_it_is_said_once(owner: Any, capsys: pytest.CaptureFixture[str]) -> None:
    owner.script(owner.give(0, w=ONES), owner.give(1, w=ONES))
    while flare.is_running():
        flare.receive()
        flare.send(answer(optimizer_params={"momentum": ONES}))
    assert [set(owner.answer(one)) for one in (0, 1)] == [{"w"}, {"w"}]
    said = capsys.readouterr().err
    assert said.count("optimizer_params are not sent") == 1
    assert "flare.state_dir()" in said


@pytest.mark.parametrize(
    ("received", "sent", "said"),
    [
        (ONES, ONES.astype(np.float64), "'w' was received as float32 and is now float64: dtypes must stay"),
        (ONES, [1.0, 2.0], "'w' was received as float32 and is now float64: dtypes must stay"),
        (ONES.astype(np.float16), ONES, "'w' was received as float16 and is now float32: dtypes must stay"),
        (narrow(ONES), ONES, "'w' was received as bfloat16 and is now float32: dtypes must stay"),
        (ONES.astype(np.int64), ONES.astype(np.float64), "'w' was received as int64 and is now float64"),
    ],
)
@pytest.mark.parametrize("transfer_type", ["FULL", "DIFF"])
@pytest.mark.parametrize("kind", ["train", "submit_model"])
def test_another_dtype_is_told_where_it_is_sent_and_how_it_is_mended(
    owner: Any, received: Any, sent: Any, said: str, transfer_type: str, kind: str
) -> None:
    owner.script(owner.give(0, kind, w=received), transfer_type=transfer_type)
    flare.receive()
    with pytest.raises(UsageError) as caught:
        flare.send(flare.FLModel(params={"w": sent}))
    assert said in caught.value.message
    assert "convert it before flare.send(), like array.astype(" in caught.value.hint
    assert owner.submitted == []


def test_a_change_that_a_script_has_computed_keeps_its_dtypes_too(owner: Any) -> None:
    owner.script(owner.give(0, w=ONES))
    flare.receive()
    with pytest.raises(UsageError, match="'w' was received as float32 and is now float64"):
        flare.send(flare.FLModel(params={"w": np.zeros(2)}, params_type="DIFF"))
    flare.send(flare.FLModel(params={"w": np.zeros(2, ">f4")}, params_type="DIFF"))
    assert owner.answer()["w"].tolist() == [0, 0]


@pytest.mark.parametrize("kind", ["evaluate", "submit_model"])
def test_a_script_that_asks_and_passes_a_task_by_is_told_instead_of_given_it_for_ever(owner: Any, kind: str) -> None:
    def loop() -> None:
        while flare.is_running():
            flare.receive()
            if flare.is_train():
                flare.send(answer())

    owner.script(owner.give(0, w=ONES), owner.give(1, kind, w=ONES))
    with pytest.raises(UsageError) as caught:
        loop()
    assert caught.value.message == f"round 2: the task is {kind!r}, and the script asks only for 'train'"
    assert f"flare.is_{kind}()" in caught.value.hint


def test_a_script_that_forgets_to_answer_an_evaluation_is_told(owner: Any) -> None:
    owner.script(owner.give(0, "evaluate", w=ONES))
    assert flare.is_running()
    assert flare.is_evaluate()
    with pytest.raises(UsageError, match="knows the task 'evaluate', but sends no answer"):
        flare.is_running()


def test_a_script_may_look_whether_the_job_goes_on_while_it_trains(owner: Any) -> None:
    owner.script(owner.give(0, w=ONES))
    assert flare.is_train()
    assert flare.is_running()
    flare.receive()
    assert flare.is_running()
    flare.send(answer())
    assert not flare.is_running()


def test_what_the_job_says_of_a_task_is_in_the_meta_of_the_model(owner: Any) -> None:
    import attrs

    owner.script(attrs.evolve(owner.give(0, w=ONES), meta={"fedprox_mu": 0.1, "SITE_NAME": "another"}))
    assert received().meta == {"fedprox_mu": 0.1, "SITE_NAME": "site-1", "JOB_ID": "j"}


def test_a_script_is_told_what_the_job_says_of_it(owner: Any) -> None:
    owner.script(Over(), framework="pytorch", once=False, datasets={"mnist": "/srv/mnist"})
    assert flare.system_info() == {"job_id": "j", "site_name": "site-1", "total_rounds": 5}
    assert flare.get_config() == {
        **flare.system_info(), "framework": "pytorch", "transfer_type": "FULL", "launch_once": False,
        "memory_gc_rounds": 0, "cuda_empty_cache": False, "datasets": {"mnist": "/srv/mnist"},
    }  # fmt: skip


def test_data_is_found_by_its_name_and_a_wrong_name_says_which_there_are(owner: Any) -> None:
    owner.script(Over(), datasets={"mnist": "/srv/mnist", "notes": "/srv/notes"})
    assert flare.get_dataset("mnist") == Path("/srv/mnist")
    with pytest.raises(UsageError, match="site-1 grants jobs no data called 'minst'") as caught:
        flare.get_dataset("minst")
    assert "there is: mnist, notes" in caught.value.hint


def test_what_was_kept_is_copied_and_what_is_changed_is_told_with_a_training_result(owner: Any) -> None:
    import attrs

    kept = owner.folder / "kept"
    (kept / "deep").mkdir(parents=True)
    (kept / "deep" / "count").write_text("1")
    (kept / "link").symlink_to("/etc/hostname")
    tasks = [owner.give(0, w=ONES), owner.give(1, w=ONES), owner.give(2, w=ONES), owner.give(3, "evaluate", w=ONES)]
    owner.script(*(attrs.evolve(task, state=str(kept) if task.round else "") for task in tasks))
    folders = []
    while flare.is_running():
        number = received().current_round
        if number != 2:
            folder = flare.state_dir()
            assert folder == flare.state_dir()
            folders.append(folder)
            assert (folder / "deep" / "count").exists() == (number > 0)
            assert os.path.islink(folder / "link") == (number > 0)
            (folder / "new").write_text("x")
        flare.send(answer() if number != 3 else flare.FLModel(metrics={"a": 1}))
    assert [one.state for one in owner.submitted] == [True, True, False, False]
    assert len(set(folders)) == 3
    assert not (kept / "new").exists()
    with pytest.raises(UsageError, match="after the last task"):
        flare.state_dir()


@pytest.mark.parametrize("rank", ["1", 3, None])
def test_only_rank_0_talks(rank: Any, monkeypatch: pytest.MonkeyPatch, owner: Any) -> None:
    if rank is None:
        monkeypatch.setenv("RANK", "2")
    flare.init(rank=rank)
    assert flare.receive() is None
    flare.send(answer())
    flare.log("loss", 0.5)
    flare.clear()
    flare.shutdown()
    assert api.current() is None
    for ask in (flare.is_running, flare.is_train, flare.is_evaluate, flare.is_submit_model, flare.get_seed):
        with pytest.raises(UsageError, match=rf"flare.{ask.__name__}\(\) is for rank 0; this is rank {rank or 2}"):
            ask()


def test_to_begin_twice_warns_and_changes_nothing(owner: Any) -> None:
    owner.script(owner.give(1, w=ONES))
    flare.init()
    begun = api.current()
    with pytest.warns(UserWarning, match=r"flare.init\(\) was called before"):
        flare.init()
    assert api.current() is begun


def test_a_script_that_flpoc_did_not_start_is_told_so(owner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UsageError, match="was not started by flpoc"):
        flare.init()
    with pytest.raises(UsageError, match=r"flare.init\(\) has not been called"):
        flare.is_running()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"w": ONES}, "takes an FLModel, not dict"),
        (None, "takes an FLModel, not NoneType"),
        (flare.FLModel(), "a training result without params"),
        (flare.FLModel(params={}), "a training result without params"),
        (flare.FLModel(params=3), "params must be a dict of arrays, not int"),
        (answer(metrics={"loss": "low"}), "metric 'loss' is str, not a number"),
        (answer(metrics=[1, 2]), "metrics must be numbers by name, not list"),
        (answer(meta={"x": ONES}), "meta must be plain JSON data"),
        (answer(meta={"NUM_STEPS_CURRENT_ROUND": 0}), "a number greater than 0"),
        (answer(meta={"NUM_STEPS_CURRENT_ROUND": "many"}), "a number greater than 0"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_it_leaves(owner: Any, model: Any, said: str) -> None:
    owner.script(owner.give(0, w=ONES))
    received()
    with pytest.raises(UsageError, match=said):
        flare.send(model)
    assert owner.submitted == []


def test_garbage_is_collected_after_every_so_many_answers(owner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr("flpoc.client.script.give_back", lambda *, graphics: asked.append(graphics))
    owner.script(*(owner.give(number, w=ONES) for number in range(5)), gc_rounds=2, empty_cache=True)
    after = []
    while flare.is_running():
        flare.send(answer())
        after.append(len(asked))
    assert after == [0, 1, 1, 2, 2]
    assert asked == [True, True]


def test_collecting_garbage_empties_the_cache_of_a_framework_that_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import SimpleNamespace

    from flpoc.client.memory import give_back

    emptied: list[bool] = []
    cuda = SimpleNamespace(is_initialized=lambda: True, empty_cache=lambda: emptied.append(True))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    give_back(graphics=False)
    assert not emptied
    give_back(graphics=True)
    assert emptied == [True]
    monkeypatch.delitem(sys.modules, "torch")
    give_back(graphics=True)
