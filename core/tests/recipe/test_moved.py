"""Documented imports lead somewhere: to the same name below flpoc, or to a message with the new one."""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys

import pytest

from flpoc.moved import NEW_PLACES

#: Documented module and name, and where the name is.
ROWS = [
    ("flpoc.recipe", "FedAvgRecipe", "flpoc.recipe"),
    ("flpoc.recipe", "SimEnv", "flpoc.recipe"),
    ("flpoc.recipe", "PocEnv", "flpoc.recipe"),
    ("flpoc.recipe", "ProdEnv", "flpoc.recipe"),
    ("flpoc.recipe.fedavg", "FedAvgRecipe", "flpoc.recipe.fedavg"),
    ("flpoc.recipe.sim_env", "SimEnv", "flpoc.recipe.sim_env"),
    ("flpoc.recipe.poc_env", "PocEnv", "flpoc.recipe.poc_env"),
    ("flpoc.recipe.prod_env", "ProdEnv", "flpoc.recipe.prod_env"),
    ("flpoc.recipe.run", "Run", "flpoc.recipe.run"),
    ("flpoc.recipe.spec", "Recipe", "flpoc.recipe.spec"),
    ("flpoc.recipe.spec", "ExecEnv", "flpoc.recipe.spec"),
    ("flpoc.recipe.utils", "add_cross_site_evaluation", "flpoc.recipe.utils"),
    ("flpoc.recipe.utils", "add_experiment_tracking", "flpoc.recipe.utils"),
    ("flpoc.client", "FLModel", "flpoc.client"),
    ("flpoc.client.tracking", "SummaryWriter", "flpoc.client.tracking"),
    ("flpoc.fuel.flare_api.flare_api", "new_secure_session", "flpoc.session"),
    ("flpoc.app_common.np.constants", "NPConstants", "flpoc.client"),
    ("flpoc.app_common.np.recipes", "NumpyFedAvgRecipe", "flpoc.recipe"),
    ("flpoc.app_common.np.recipes", "NumpyCrossSiteEvalRecipe", "flpoc.recipe"),
    ("flpoc.app_common.aggregators.model_aggregator", "ModelAggregator", "flpoc.recipe"),
    ("flpoc.app_common.abstract.fl_model", "FLModel", "flpoc.client"),
    ("flpoc.app_opt.pt.recipes", "FedAvgRecipe", "flpoc_framework_torch.recipes"),
    ("flpoc.app_opt.tf.recipes", "FedAvgRecipe", "flpoc_framework_tf.recipes"),
    ("flpoc.app_opt.tf.tf_validator", "TFValidator", "flpoc_framework_tf"),
]


@pytest.mark.parametrize(("old", "name", "new"), ROWS, ids=lambda value: value)
def test_a_documented_import_leads_somewhere(old, name, new):
    package = new.partition(".")[0]
    if importlib.util.find_spec(package) is not None:
        assert hasattr(importlib.import_module(new), name)
    if old != new:
        with pytest.raises(ModuleNotFoundError, match=rf"{re.escape(new)}\b.* instead of {re.escape(old)}"):
            importlib.import_module(old)


def test_every_place_that_is_told_has_a_row():
    assert set(NEW_PLACES) - {"flpoc.job_config"} == {old for old, _, new in ROWS if old != new}


def test_a_module_that_never_was_is_no_such_module():
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'flpoc\.nothing'"):
        importlib.import_module("flpoc.nothing")
    assert importlib.util.find_spec("flpoc.nothing") is None


@pytest.mark.parametrize("line", ["from flpoc.app_opt.pt.recipes import FedAvgRecipe", "from flpoc import app_opt"])
def test_the_message_is_the_last_line_of_a_program_that_imports_the_old_place(line):
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "flpoc_framework_torch.recipes instead of flpoc.app_opt.pt.recipes" in done.stderr.splitlines()[-1]
