"""A script's part in a job, with an owner in the same process."""

from __future__ import annotations

from typing import Any

import numpy as np

import flpoc.client as flare

ONES = np.ones(2, np.float32)


def test_a_script_runs_in_the_process_of_its_owner_once_for_each_task(owner: Any) -> None:
    owner.script(owner.give(3, w=ONES), owner.give(4, w=ONES))
    flare.init()
    rounds = []
    while flare.is_running():
        model = flare.receive()
        assert model is not None
        assert model is flare.receive()
        rounds.append(model.current_round)
        flare.log("loss", 0.5)
        flare.send(flare.FLModel(params={"w": model.params["w"] + model.current_round}, metrics={"accuracy": 0.5}))
    assert rounds == [3, 4]
    assert [owner.answer(one)["w"].tolist() for one in rounds] == [[4, 4], [5, 5]]
    assert [(one.round, one.metrics) for one in owner.submitted] == [(3, {"accuracy": 0.5}), (4, {"accuracy": 0.5})]
    assert [row.key for one in owner.logged for row in one.rows] == ["loss", "loss"]
    assert flare.receive() is None
