"""Saying whose fault it is when a launcher fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from flpoc.errors import FlpocError, PluginError
from flpoc.launching import Handle, Launcher, LaunchRequest, Status

T = TypeVar("T")


class Attributed(Launcher):
    """A launcher whose unexpected exceptions become errors that name it."""

    def __init__(self, name: str, plugin: str, launcher: Launcher) -> None:
        self._name = name
        self._plugin = plugin
        self._launcher = launcher

    def launch(self, request: LaunchRequest) -> Handle:
        return self._ask("launch", lambda: self._launcher.launch(request))

    def poll(self, handle: Handle) -> Status:
        return self._ask("poll", lambda: self._launcher.poll(handle))

    def wait(self, handle: Handle, timeout: float) -> Status:
        return self._ask("wait", lambda: self._launcher.wait(handle, timeout))

    def stop(self, handle: Handle, *, grace: float = 10.0) -> None:
        self._ask("stop", lambda: self._launcher.stop(handle, grace=grace))

    def logs(self, handle: Handle, *, tail: int = 200) -> str:
        return self._ask("logs", lambda: self._launcher.logs(handle, tail=tail))

    def make_ready(self, say: Callable[[str], None]) -> Mapping[str, Any]:
        return self._ask("make_ready", lambda: self._launcher.make_ready(say))

    def python(self, image: str = "") -> str:
        return self._ask("python", lambda: self._launcher.python(image))

    def address(self, host: str) -> str:
        return self._ask("address", lambda: self._launcher.address(host))

    def data_path(self, study: str, name: str, source: str) -> str:
        return self._ask("data_path", lambda: self._launcher.data_path(study, name, source))

    def _ask(self, method: str, act: Callable[[], T]) -> T:
        try:
            return act()
        except FlpocError:
            raise
        except Exception as error:
            raise PluginError(
                f"the launcher {self._name!r} failed in `{method}`: {type(error).__name__}: {error}",
                code="PLUGIN_BROKEN",
                hint=f"this is a defect of the plugin {self._plugin!r}: its log and its authors may know more",
            ) from error
