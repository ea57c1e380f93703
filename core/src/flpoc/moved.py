"""Where things are that comparable systems keep elsewhere: whoever imports the old place is told the new one."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Final

#: Modules below ``flpoc`` that there are not, and where what they are imported for is; of the longest that fits.
NEW_PLACES: Final = {
    "flpoc.app_common.abstract.fl_model": "flpoc.client (FLModel, ParamsType)",
    "flpoc.app_common.aggregators.model_aggregator": "flpoc.recipe (ModelAggregator)",
    "flpoc.app_common.np.constants": "flpoc.client (NPConstants)",
    "flpoc.app_common.np.recipes": "flpoc.recipe (NumpyFedAvgRecipe, NumpyCrossSiteEvalRecipe)",
    "flpoc.app_opt.pt.recipes": "flpoc_framework_torch.recipes",
    "flpoc.app_opt.tf.recipes": "flpoc_framework_tf.recipes",
    "flpoc.app_opt.tf.tf_validator": "flpoc_framework_tf (TFValidator)",
    "flpoc.fuel.flare_api.flare_api": "flpoc.session (new_secure_session)",
    "flpoc.job_config": "flpoc.recipe (Job, Recipe)",
}


class Moved:
    """Told of a module that is not found, says where its contents are."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        """Refuse the import of an old place.

        Raises:
            ModuleNotFoundError: Names the new places of all that is below this module.
        """
        del path, target
        found = {old: new for old, new in NEW_PLACES.items() if f"{old}.".startswith(f"{name}.")}
        if found:
            said = "; ".join(f"import {new} instead of {old}" for old, new in found.items())
            raise ModuleNotFoundError(f"there is no {name}: {said}")  # with its name, `from flpoc import x` hides it
