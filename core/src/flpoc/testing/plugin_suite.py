"""What every plugin must keep, whatever it offers."""

from __future__ import annotations

import importlib
from typing import ClassVar

import attrs
import pytest

from flpoc import API
from flpoc.cli.plugins_check import HEAVY, heavy_imports, name_problem, summary_problem
from flpoc.components import Component
from flpoc.errors import ConfigError, FlpocError
from flpoc.plugins import OFFERS, Offer, PluginRecord, Plugins, PluginState
from flpoc.settings import structure


class PluginSuite:
    """Tests of a plugin; a subclass names its module with the hooks.

    Attributes:
        plugin: The module, e.g. ``"flpoc_builtin_docker.hooks"``.
        heavy: Packages that must not be imported before something is created, because every command would wait
            for them.
    """

    plugin: ClassVar[str] = ""
    heavy: ClassVar[frozenset[str]] = HEAVY

    @pytest.fixture
    def plugins(self) -> Plugins:
        """All plugins that are installed, and the one under test, installed or not."""
        plugins = Plugins.load()
        if any(record.module == self.plugin for record in plugins.records):
            return plugins
        return Plugins.load(private=[self.plugin])

    def record(self, plugins: Plugins) -> PluginRecord:
        """What became of the plugin under test."""
        return next(record for record in plugins.records if record.module == self.plugin)

    def offers(self, plugins: Plugins) -> list[Offer]:
        """Everything that the plugin under test offers."""
        return [offer for kind in OFFERS for offer in plugins.offers(kind) if offer.plugin.module == self.plugin]

    def test_it_is_written_for_this_plugin_interface(self) -> None:
        assert getattr(importlib.import_module(self.plugin), "FLPOC_API", None) == API

    def test_it_loads(self, plugins: Plugins) -> None:
        record = self.record(plugins)
        assert (record.state, record.reason) == (PluginState.LOADED, "")

    def test_it_answers_at_least_one_hook(self) -> None:
        found = vars(importlib.import_module(self.plugin)).items()
        assert [name for name, value in found if name.startswith("flpoc_") and hasattr(value, "flpoc_impl")]

    def test_it_can_be_asked_for_what_it_offers(self, plugins: Plugins) -> None:
        self.offers(plugins)
        assert self.record(plugins).reason == ""

    def test_hooks_and_offers_import_nothing_heavy(self) -> None:
        assert heavy_imports(self.plugin, self.heavy) == []

    def test_its_package_its_module_and_its_hooks_are_named_alike(self, plugins: Plugins) -> None:
        record = self.record(plugins)
        if not record.distribution or record.name == "core":
            pytest.skip("it is not installed as a package of its own")
        assert record.module == f"{record.distribution.lower().replace('-', '_')}.hooks"

    def test_names_are_short_words_with_hyphens(self, plugins: Plugins) -> None:
        assert [offer.name for offer in self.offers(plugins) if name_problem(offer.name)] == []

    def test_summaries_are_one_line(self, plugins: Plugins) -> None:
        for offer in self.offers(plugins):
            assert summary_problem(offer.component.summary) == "", offer.name

    def test_no_two_offers_of_a_kind_have_one_name(self, plugins: Plugins) -> None:
        for offer in self.offers(plugins):
            assert plugins.find(offer.kind, offer.name) == offer

    def test_settings_are_attrs_classes(self, plugins: Plugins) -> None:
        kinds = [offer.component.settings for offer in self.offers(plugins)]
        assert [kind for kind in kinds if not (isinstance(kind, type) and attrs.has(kind))] == []

    def test_a_setting_that_does_not_exist_is_refused_with_its_path(self, plugins: Plugins) -> None:
        for offer in self.offers(plugins):
            with pytest.raises(ConfigError, match=r"^suite\.no_such_setting: "):
                structure({"no_such_setting": 1}, offer.component.settings, where="suite")

    def test_what_it_offers_can_be_made_or_says_what_is_missing(self, plugins: Plugins) -> None:
        for offer in self.offers(plugins):
            assert _make(offer.component) not in (None, ""), offer.name


def _make(component: Component[object]) -> object:
    """What it makes by default; the hint, if it needs something that is not there."""
    try:
        settings = structure({}, component.settings, where=component.name)
    except ConfigError as needed:
        return needed  # it has settings without default
    try:
        return component.create(settings)
    except FlpocError as missing:
        return missing.hint
