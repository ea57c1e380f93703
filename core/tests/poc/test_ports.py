"""Whose a port is."""

from __future__ import annotations

import os
import socket

import pytest

from flpoc.ports import PortOwner, is_free, next_free, owners, who_has


@pytest.fixture(params=[(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")])
def taken(request):
    family, address = request.param
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        try:
            listener.bind((address, 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_on_which_somebody_listens_is_not_free(taken):
    assert not is_free(taken)


def test_its_owner_is_named(taken):
    assert [owner.pid for owner in owners(taken)] == [os.getpid()]
    assert f"(pid {os.getpid()})" in who_has(taken)


def test_a_port_on_which_nobody_listens_is_free_and_has_no_owner():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert is_free(port)
    assert owners(port) == ()


def test_looking_for_a_port_goes_past_those_taken_and_those_to_avoid(taken):
    found = next_free(taken, {taken + 1})
    assert found > taken + 1


def test_an_owner_that_cannot_be_seen_is_another_users():
    assert PortOwner(0).text == "another user's process"
