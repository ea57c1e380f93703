"""A patched trainer receives and sends by itself."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch
import numpy as np
import pytest
import pytorch_lightning
import torch

import flpoc.client.lightning as flare
from flpoc.client import api
from flpoc.errors import UsageError

KINDS = [pytorch_lightning, lightning.pytorch]
START = {"layer.weight": np.zeros((1, 2), np.float32), "layer.bias": np.zeros(1, np.float32)}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def net(kind: Any, rate: float = 0.1, momentum: float = 0.0, shrink: float = 1.0) -> Any:
    """A linear model that is fitted to y = 2a - b + 1."""

    class Net(kind.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)
            self.seen: list[list[float]] = []

        def training_step(self, batch: Any, _: int) -> Any:
            self.seen.append(self.layer.weight[0].tolist())
            return torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("loss", torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1]))
            self.log("weight", self.layer.weight[0, 0])

        def configure_optimizers(self) -> Any:
            made = torch.optim.SGD(self.parameters(), lr=rate, momentum=momentum)
            return [made], [torch.optim.lr_scheduler.ExponentialLR(made, shrink)] if shrink != 1 else []

    return Net()


def loader(shuffle: bool = False, batches: int = 4) -> Any:
    x = torch.linspace(-1, 1, 8 * batches).reshape(-1, 2)
    y = (2 * x[:, :1] - x[:, 1:] + 1).clone()
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4, shuffle=shuffle)


def trainer(kind: Any, **more: Any) -> Any:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    given = {"accelerator": "cpu", "devices": 1, "max_epochs": 1, "enable_checkpointing": False}
    return kind.Trainer(**{**given, **quiet, **more})


def loop(made: Any, model: Any, data: Any) -> list[int]:
    """A script as it is documented."""
    flare.patch(made)
    rounds = []
    while flare.is_running():
        received = flare.receive()
        rounds.append(received.current_round)
        made.validate(model, data, verbose=False)
        made.fit(model, data)
    return rounds


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_fit_begins_with_the_received_model_and_sends_what_it_has_made_of_it(tasks, kind: Any) -> None:
    tasks.begin("train", "train", "evaluate", model=START)
    model = net(kind)
    assert loop(trainer(kind), model, loader()) == [0, 1, 2]
    first, second, last = tasks.answers
    assert [one.kind for one in tasks.answers] == ["train", "train", "evaluate"]
    assert model.seen[0] == [0, 0]
    assert np.allclose(model.seen[4], tasks.sent(0)["layer.weight"][0])
    assert (first.weight, second.weight) == (4, 4)
    assert first.metrics["weight"] == 0  # of the received model, not of the trained one
    assert last.metrics["weight"] == pytest.approx(float(tasks.sent(1)["layer.weight"][0, 0]))
    assert first.metrics["loss"] > second.metrics["loss"] > last.metrics["loss"]
    assert first.evaluates


def test_without_an_initial_model_the_site_starts_from_its_own(tasks) -> None:
    tasks.begin("train")
    model = net(pytorch_lightning)
    own = model.layer.weight[0].tolist()
    loop(trainer(pytorch_lightning), model, loader())
    assert model.seen[0] == own


def test_a_script_that_does_not_validate_sends_no_metrics(tasks) -> None:
    tasks.begin("train", model=START)
    made = trainer(pytorch_lightning)
    flare.patch(made)
    while flare.is_running():
        made.fit(net(pytorch_lightning), loader(), loader())  # what is validated inside a fit is no received model
    assert (tasks.answers[0].metrics, tasks.answers[0].evaluates) == ({}, False)


def test_a_script_that_only_fits_waits_in_it(tasks) -> None:
    tasks.begin("train", "train", model=START)
    made, model = trainer(pytorch_lightning), net(pytorch_lightning)
    flare.patch(made)
    for _ in range(3):  # the third finds that the job is over
        made.fit(model, loader())
    assert len(tasks.answers) == 2
    assert len(model.seen) == 8


def test_a_local_model_may_be_validated_after_the_fit(tasks) -> None:
    tasks.begin("train", "train", model=START)
    made, model = trainer(pytorch_lightning), net(pytorch_lightning)
    flare.patch(made)
    while flare.is_running():
        made.fit(model, loader())
        trained = model.layer.weight.tolist()
        made.validate(model, loader(), verbose=False)
        assert model.layer.weight.tolist() == trained
    assert [one.metrics for one in tasks.answers] == [{}, {}]


def test_patching_twice_is_patching_once(tasks) -> None:
    tasks.begin("train", model=START)
    made = trainer(pytorch_lightning)
    flare.patch(made)
    before = len(made.callbacks)
    loop(made, net(pytorch_lightning), loader())
    assert len(made.callbacks) == before
    assert len(tasks.answers) == 1


@pytest.mark.parametrize(
    "limits", [{"max_epochs": 2}, {"max_epochs": -1, "max_steps": 8}, {"max_epochs": 9, "max_steps": 8}]
)
def test_the_limits_of_training_hold_for_every_round(tasks, limits: dict[str, int]) -> None:
    tasks.begin("train", "train", "train", model=START)
    loop(trainer(pytorch_lightning, **limits), net(pytorch_lightning), loader())
    assert [one.weight for one in tasks.answers] == [8, 8, 8]


def test_limits_for_all_rounds_together_that_are_reached_are_an_error(tasks) -> None:
    tasks.begin("train", "train", model=START)
    made, model = trainer(pytorch_lightning), net(pytorch_lightning)
    flare.patch(made, update_fit_loop=False)
    made.fit(model, loader())
    with pytest.raises(UsageError, match=r"round 2: .* has not trained") as refusal:
        made.fit(model, loader())
    assert "max_epochs" in refusal.value.hint


def test_optimisers_and_schedulers_go_on_where_they_were(tasks) -> None:
    """Two rounds of a single site are the same as one fit of twice the length."""
    tasks.begin("train", model=START)
    loop(trainer(pytorch_lightning, max_epochs=2), net(pytorch_lightning, momentum=0.9, shrink=0.5), loader())
    whole = tasks.sent(0)
    tasks.begin("train", "train", model=START)
    loop(trainer(pytorch_lightning), net(pytorch_lightning, momentum=0.9, shrink=0.5), loader())
    assert np.array_equal(tasks.sent(1)["layer.weight"], whole["layer.weight"])


def test_optimisers_go_on_also_in_another_process(tasks) -> None:
    """What they know is kept with the job: a script that is started anew has it."""
    tasks.begin("train", "train", model=START)
    loop(trainer(pytorch_lightning), net(pytorch_lightning, momentum=0.9), loader())
    whole = tasks.sent(1)
    tasks.begin("train", "train", model=START)
    for _ in range(2):
        made = trainer(pytorch_lightning)
        flare.patch(made)
        made.fit(net(pytorch_lightning, momentum=0.9), loader())
    assert np.array_equal(tasks.sent(1)["layer.weight"], whole["layer.weight"])


def test_optimisers_begin_anew_if_wanted(tasks) -> None:
    tasks.begin("train", "train", model=START)
    made = trainer(pytorch_lightning)
    flare.patch(made, restore_state=False)
    model = net(pytorch_lightning, momentum=0.9)
    for _ in range(2):
        made.fit(model, loader())
    assert not any(one.state for one in tasks.answers)


def test_the_order_of_batches_follows_from_the_seed_alone(tasks) -> None:
    found = []
    for luck in (1, 2):
        torch.manual_seed(luck)
        tasks.begin("train", model=START)
        loop(trainer(pytorch_lightning), net(pytorch_lightning), loader(shuffle=True))
        found.append(tasks.sent(0)["layer.weight"].tolist())
    assert found[0] == found[1]
    tasks.begin("train", model=START, seed=4)
    loop(trainer(pytorch_lightning), net(pytorch_lightning), loader(shuffle=True))
    assert tasks.sent(0)["layer.weight"].tolist() != found[0]


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_script_that_is_started_anew_draws_the_same_batches(tasks, epochs: int) -> None:
    tasks.begin("train", "train", "train", model=START)
    loop(trainer(pytorch_lightning, max_epochs=epochs), net(pytorch_lightning), loader(shuffle=True))
    whole = [tasks.sent(number)["layer.weight"].tolist() for number in range(3)]
    tasks.begin("train", "train", "train", model=START)
    for _ in range(3):
        made, model, data = trainer(pytorch_lightning, max_epochs=epochs), net(pytorch_lightning), loader(shuffle=True)
        flare.patch(made)
        made.validate(model, data, verbose=False)
        made.fit(model, data)
    assert [tasks.sent(number)["layer.weight"].tolist() for number in range(3)] == whole


def test_the_proximal_term_of_fedprox_is_added_if_the_server_says_so(tasks) -> None:
    """Compared with a plain loop."""
    tasks.begin("train", model=START, meta={"fedprox_mu": 0.7})
    loop(trainer(pytorch_lightning, max_epochs=3), net(pytorch_lightning), loader())
    layer = torch.nn.Linear(2, 1)
    layer.load_state_dict({name[6:]: torch.from_numpy(one.copy()) for name, one in START.items()})
    for _ in range(3):
        for x, y in loader():
            near = sum((one**2).sum() for one in layer.parameters())  # the received model is zero
            loss = torch.nn.functional.mse_loss(layer(x), y) + 0.7 / 2 * near
            layer.zero_grad()
            loss.backward()
            with torch.no_grad():
                for one in layer.parameters():
                    one.sub_(0.1 * one.grad)
    assert np.allclose(tasks.sent(0)["layer.weight"], layer.weight.detach().numpy(), atol=1e-6)


def test_a_site_gives_its_own_model_also_after_evaluating_anothers(tasks) -> None:
    tasks.begin("train", "evaluate", "submit_model", "evaluate", model=START)
    made, model = trainer(pytorch_lightning), net(pytorch_lightning)
    flare.patch(made)
    while flare.is_running():
        made.validate(model, loader(), verbose=False)
        if api.current().task is not None and api.current().task.round == 1:
            raise AssertionError("an evaluation is answered by validate")
        made.fit(model, loader())
    assert [one.kind for one in tasks.answers] == ["train", "evaluate", "submit_model", "evaluate"]
    assert np.array_equal(tasks.sent(2)["layer.weight"], tasks.sent(0)["layer.weight"])


def test_a_site_that_has_not_trained_has_no_model_of_its_own(tasks) -> None:
    tasks.begin("submit_model")
    with pytest.raises(UsageError, match="no model of its own"):
        loop(trainer(pytorch_lightning), net(pytorch_lightning), loader())


def test_an_evaluation_needs_a_validation(tasks) -> None:
    tasks.begin("evaluate", model=START)
    made = trainer(pytorch_lightning)
    flare.patch(made)
    with pytest.raises(UsageError) as refusal:
        made.fit(net(pytorch_lightning), loader())
    assert "trainer.validate()" in refusal.value.hint


def test_parameters_that_stay_at_the_site_are_neither_loaded_nor_sent(tasks) -> None:
    tasks.begin("train", model={"layer.weight": START["layer.weight"]})
    made, model = trainer(pytorch_lightning), net(pytorch_lightning)
    flare.patch(made, load_state_dict_strict=False)
    made.fit(model, loader())
    assert set(tasks.sent(0)) == {"layer.weight"}
    assert model.seen[0] == [0, 0]


def test_a_model_that_is_not_the_scripts_is_an_error(tasks) -> None:
    tasks.begin("train", model={"other.weight": np.zeros(3, np.float32)})
    made = trainer(pytorch_lightning)
    flare.patch(made)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*other\.weight"):
        made.fit(net(pytorch_lightning), loader())


def test_a_module_may_say_what_is_sent_with_the_model(tasks) -> None:
    tasks.begin("train", model=START)
    model = net(pytorch_lightning)
    model.__fl_meta__ = {"NUM_STEPS_CURRENT_ROUND": 100, "scanner": "A"}
    loop(trainer(pytorch_lightning), model, loader())
    assert (tasks.answers[0].weight, tasks.answers[0].meta) == (100, {"scanner": "A"})


def test_params_may_come_as_tensors(tasks) -> None:
    tasks.begin("train", model=START, framework="pytorch")
    made, model = trainer(pytorch_lightning), net(pytorch_lightning)
    flare.patch(made)
    assert isinstance(flare.receive().params["layer.weight"], torch.Tensor)
    made.fit(model, loader())
    assert model.seen[0] == [0, 0]


def test_a_trainer_of_several_processes_is_refused(tasks) -> None:
    tasks.begin("train", model=START)
    with pytest.raises(UsageError, match="2 processes") as refusal:
        flare.patch(trainer(pytorch_lightning, devices=2, strategy="ddp_spawn"))
    assert "rank 0" in refusal.value.hint


@pytest.mark.parametrize("odd", [torch.nn.Linear(1, 1), net(pytorch_lightning)], ids=["module", "lightning module"])
def test_only_trainers_are_patched(tasks, odd: Any) -> None:
    tasks.begin("train", model=START)
    with pytest.raises(UsageError, match="no Trainer of Lightning"):
        flare.patch(odd)


def test_without_the_plugin_it_says_which_package_to_install(tasks) -> None:
    tasks.begin("train", model=START, plugins=())
    with pytest.raises(UsageError, match="nothing here can patch") as refusal:
        flare.patch(trainer(pytorch_lightning))
    assert "flpoc-framework-torch" in refusal.value.hint


def test_one_import_is_enough() -> None:
    import flpoc.client

    assert {*flpoc.client.__all__, "patch"} == set(flare.__all__)
    assert [name for name in flare.__all__ if not hasattr(flare, name)] == []
