"""What this plugin offers."""

from flpoc import Component, hookimpl

FLPOC_API = 1


@hookimpl
def flpoc_authorities():
    yield Component("p12", "Keeps its key in one encrypted PKCS #12 file", _authority)


def _authority(_):
    from flpoc_p12.authority import Pkcs12Authority

    return Pkcs12Authority()
