"""A site's policy says which data jobs may use."""

from __future__ import annotations

from typing import Any

import pytest

from flpoc.errors import ConfigError
from flpoc.launching import Mount
from flpoc.site.datasets import granted


def test_a_path_is_granted_for_reading_and_a_table_says_more() -> None:
    datasets = {"a": "/srv/a", "b": {"source": "/srv/b"}, "c": {"source": "/srv/c", "mode": "rw"}}
    assert granted(datasets) == {
        "a": Mount("/srv/a", "/srv/a"),
        "b": Mount("/srv/b", "/srv/b"),
        "c": Mount("/srv/c", "/srv/c", writable=True),
    }


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("data", "absolute"),
        ({"source": "data"}, "absolute"),
        ({"mode": "rw"}, "source"),
        ({"source": "/srv", "mode": "w"}, "mode"),
        ({"source": "/srv", "mdoe": "rw"}, "mode"),
        (7, "datasets.mnist"),
        (None, "datasets.mnist"),
    ],
)
def test_an_entry_that_is_wrong_is_named(value: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        granted({"mnist": value})
    assert "datasets.mnist" in caught.value.message
    assert said in caught.value.message + caught.value.hint
