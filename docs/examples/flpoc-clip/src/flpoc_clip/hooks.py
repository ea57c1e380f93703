"""What this plugin offers."""

from flpoc import Component, hookimpl
from flpoc_clip.settings import ClipSettings

FLPOC_API = 1


@hookimpl
def flpoc_filters():
    yield Component("clip", "Bounds the L2 norm of the change that an update makes", _clip, ClipSettings)


def _clip(settings: ClipSettings):
    from flpoc_clip.clipping import Clip

    return Clip(settings)
