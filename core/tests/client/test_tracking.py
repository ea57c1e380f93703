"""Writers with the calls of tracking libraries."""

from __future__ import annotations

from typing import Any

import pytest

from flpoc.client.tracking import MLflowWriter, SummaryWriter, WandBWriter


def test_numbers_of_every_writer_are_logged(owner: Any) -> None:
    owner.script(owner.give(0))
    board, wandb, mlflow = SummaryWriter(), WandBWriter(), MLflowWriter()
    board.add_scalar("loss", 0.5, global_step=3)
    board.add_scalar("loss", 0.25, 4, walltime=1.0)
    board.add_scalars("acc", {"train": 1, "test": 0.5}, 5)
    board.flush()
    board.close()
    wandb.log({"a": 1.0, "b": 2.0}, step=6)
    mlflow.log_metric("m", 1.0, step=7)
    mlflow.log_metrics({"n": 2.0}, 8)
    mlflow.log_params({"lr": 0.1, "layers": 3})
    mlflow.set_tag("fold", 2)
    rows = [(row.key, row.value, row.step) for one in owner.logged for row in one.rows]
    assert rows == [
        ("loss", 0.5, 3), ("loss", 0.25, 4), ("acc/train", 1.0, 5), ("acc/test", 0.5, 5), ("a", 1.0, 6),
        ("b", 2.0, 6), ("m", 1.0, 7), ("n", 2.0, 8), ("param/lr", 0.1, None), ("param/layers", 3.0, None),
        ("tag/fold", 2.0, None),
    ]  # fmt: skip


def test_text_is_in_the_log_of_the_job(owner: Any, capsys: pytest.CaptureFixture[str]) -> None:
    owner.script(owner.give(0))
    mlflow = MLflowWriter()
    mlflow.log_param("optimizer", "adam")
    mlflow.log_params({"shuffle": True, "limit": float("nan")})
    mlflow.set_tags({"task": "digits"})
    mlflow.log_text("one\ntwo", "notes.txt")
    assert owner.logged == []
    assert capsys.readouterr().out.splitlines() == [
        "param optimizer = adam", "param shuffle = True", "param limit = nan", "tag task = digits",
        "notes.txt: one", "notes.txt: two",
    ]  # fmt: skip
