"""The catalogue says what the classes are, and runs none of them to find out."""

from __future__ import annotations

import importlib
import inspect
import sys

import pytest

from flpoc.errors import ConfigError, FlpocError
from flpoc.plugins import Plugins
from flpoc.recipe.catalogue import catalogue, find, read_recipes

ENTRY = """
    CATALOGUE = RecipeEntry(
        name={name!r}, description="Does.", framework="acme", algorithm="fedavg", aggregation="mean",
        state_exchange="full-model",
    )
"""


@pytest.fixture
def read(tmp_path):
    """Read a class with a catalogue entry and this body."""

    def reading(body: str = "", *, entry: str = ENTRY.format(name="x"), before: str = "", bases: str = ""):
        path = tmp_path / "recipes.py"
        path.write_text(f"{before}\nraise SystemExit('it was run')\nclass Some{bases}:\n{entry}\n{body}\n")
        return read_recipes(path, "acme.recipes")

    return reading


def test_core_recipes_are_what_the_catalogue_says():
    found, troubles = catalogue(Plugins.load())
    assert troubles == []
    assert found
    for one in found:
        cls = getattr(importlib.import_module(one.module), one.cls)
        assert one.entry == cls.CATALOGUE
        real = inspect.signature(cls).parameters
        assert [parameter.name for parameter in one.parameters] == list(real)
        for parameter in one.parameters:
            default = real[parameter.name].default
            assert parameter.required == (default is inspect.Parameter.empty)
            assert parameter.required or parameter.default == default
            assert parameter.kind == real[parameter.name].kind.name.lower()
            assert parameter.type == real[parameter.name].annotation


def test_parameters_are_read_from_the_constructor(read):
    [one] = read("    def __init__(self, a, b: int = 1, *, c: 'list[str]', d=None, e=Kind.X, f=[1]): ...")
    assert [(p.name, p.type, p.required, p.default, p.kind) for p in one.parameters] == [
        ("a", None, True, None, "positional_or_keyword"),
        ("b", "int", False, 1, "positional_or_keyword"),
        ("c", "'list[str]'", True, None, "keyword_only"),
        ("d", None, False, None, "keyword_only"),
        ("e", None, False, "Kind.X", "keyword_only"),
        ("f", None, False, [1], "keyword_only"),
    ]


def test_a_class_without_a_constructor_has_that_of_its_base_in_the_file(read):
    before = "class First:\n    def __init__(self, *, a=1): ...\nclass Second(Elsewhere, First): ...\n"
    assert [p.name for p in read(before=before, bases="(Second)")[0].parameters] == ["a"]
    assert read(bases="(Elsewhere)")[0].parameters == ()
    assert read(bases="(Some)")[0].parameters == ()


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("    CATALOGUE = RecipeEntry('x')", "wanted is RecipeEntry"),
        ("    CATALOGUE = {'name': 'x'}", "wanted is RecipeEntry"),
        ("    CATALOGUE = RecipeEntry(name=NAME)", "name: the value must be written out"),
        ("    CATALOGUE = RecipeEntry(name='x')", "missing required"),
        (ENTRY.format(name="x").replace("framework", "framewrk"), "framewrk: no such setting"),
        (ENTRY.format(name="x").replace('"Does."', "7"), "Expected `str`"),
        (ENTRY.format(name="x").replace('"Does."', "**more"), "SyntaxError|invalid syntax"),
    ],
)
def test_an_entry_that_cannot_be_read_says_where_and_why(read, entry, told):
    with pytest.raises(ConfigError, match=told) as caught:
        read(entry=entry)
    assert "recipes.py" in caught.value.message


# -- plugins


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A private plugin with these files beside its hooks."""

    def put(name: str, **sources: str) -> str:
        folder = tmp_path / "lib" / name
        folder.mkdir(parents=True)
        for path, text in {"__init__": "", "hooks": "FLPOC_API = 1", **sources}.items():
            (folder / f"{path}.py").parent.mkdir(exist_ok=True)
            (folder / f"{path}.py").write_text(text)
        return f"{name}.hooks"

    monkeypatch.syspath_prepend(tmp_path / "lib")
    yield put
    for name in [name for name in sys.modules if name.startswith("acme_")]:
        del sys.modules[name]


def source(*names: str) -> str:
    classes = "".join(f"class {name.title().replace('-', '')}:\n{ENTRY.format(name=name)}\n" for name in names)
    return f"import a_framework_that_is_not_here\n{classes}"


def test_recipes_stand_beside_the_hooks_of_a_plugin_in_a_module_or_in_several(plugin):
    several = plugin("acme_two", **{"recipes/three": source("three")})
    private = [plugin("acme_one", recipes=source("one", "two")), several]
    found, troubles = catalogue(Plugins.load(private=private))
    assert troubles == []
    assert [(one.entry.name, one.module, one.cls) for one in found if one.entry.framework == "acme"] == [
        ("one", "acme_one.recipes", "One"),
        ("three", "acme_two.recipes", "Three"),
        ("two", "acme_one.recipes", "Two"),
    ]


def test_recipes_of_a_plugin_that_is_not_loaded_are_left_out(plugin):
    private = [plugin("acme_off", recipes=source("one"))]
    assert not [one for one in catalogue(Plugins.load(private=private, disabled=private))[0] if one.cls == "One"]


def test_recipes_that_cannot_be_read_harm_no_others(plugin):
    private = [plugin("acme_bad", recipes="class X(:"), plugin("acme_good", recipes=source("good"))]
    found, troubles = catalogue(Plugins.load(private=private))
    assert [one.entry.name for one in found if one.entry.framework == "acme"] == ["good"]
    [trouble] = troubles
    assert "acme_bad.recipes" in trouble
    assert "line 1" in trouble


def test_a_recipe_is_found_by_its_name_with_either_hyphen(plugin):
    found, _ = catalogue(Plugins.load(private=[plugin("acme_a", recipes=source("fed-x"))]))
    assert find(found, "Fed_X").entry.name == "fed-x"
    with pytest.raises(FlpocError) as caught:
        find(found, "fed-y")
    assert (caught.value.code, caught.value.hint) == ("RECIPE_ENTRY_NOT_FOUND", "did you mean 'fed-x'?")


def test_a_name_that_two_have_names_both(plugin):
    private = [plugin("acme_b", recipes=source("same")), plugin("acme_c", recipes=source("same"))]
    found, _ = catalogue(Plugins.load(private=private))
    with pytest.raises(FlpocError, match=r"acme_b\.recipes\.Same, acme_c\.recipes\.Same") as caught:
        find(found, "same")
    assert caught.value.code == "RECIPE_ENTRY_AMBIGUOUS"
