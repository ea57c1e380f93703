"""What this plugin offers."""

from flpoc import Component, hookimpl
from flpoc_geomed.settings import GeometricMedianSettings

FLPOC_API = 1


@hookimpl
def flpoc_aggregators():
    summary = "The geometric median of the sites' models (Pillutla et al. 2022)"
    yield Component("geometric-median", summary, _median, GeometricMedianSettings)


def _median(settings: GeometricMedianSettings):
    from flpoc_geomed.median import GeometricMedian

    return GeometricMedian(settings)
