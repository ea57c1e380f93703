"""What a recipe says about itself in the catalogue."""

from __future__ import annotations

import attrs


@attrs.frozen
class RecipeEntry:
    """What ``flpoc recipe list`` and ``flpoc recipe show`` say about a recipe.

    It stands in the recipe's class, ``CATALOGUE = RecipeEntry(...)``, and is
    read without running the file that it is in: its values are written out,
    as texts, lists and dicts of texts.

    Attributes:
        name: How the catalogue calls the recipe, like ``fedavg-numpy``.
        description: What it does, in one line.
        framework: What models are made of: numpy, pytorch, tensorflow, sklearn, xgboost, raw.
        algorithm: The algorithm, like ``fedavg``.
        aggregation: What is made of the sites' updates.
        state_exchange: What travels each round.
        privacy: What it protects by itself.
        client_requirements: What a site needs, and what its script must do.
        framework_support: Frameworks whose models it takes.
        heterogeneity_support: How sites may differ.
        privacy_compatible: What can be added to it.
        optional_dependencies: Packages that some of its parameters need.
        template_references: Job templates that do the same.
        notes: What else is good to know.
    """

    name: str
    description: str
    framework: str
    algorithm: str
    aggregation: str
    state_exchange: str
    privacy: tuple[str, ...] = ()
    client_requirements: dict[str, str] = attrs.field(factory=dict)
    framework_support: tuple[str, ...] = ()
    heterogeneity_support: tuple[str, ...] = ()
    privacy_compatible: tuple[str, ...] = ()
    optional_dependencies: tuple[str, ...] = ()
    template_references: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
