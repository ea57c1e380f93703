"""No secret leaves the command line."""

from __future__ import annotations

import pytest

from flpoc.cli.redaction import HIDDEN, redact

PEM = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----"


@pytest.mark.row("S22")
@pytest.mark.parametrize(
    "key", ["api_key", "private_key", "client-secret", "db_password", "Passphrase", "ACCESS_TOKEN"]
)
def test_values_under_secret_keys_are_replaced_at_any_depth(key):
    assert redact({"a": [{key: "hunter2"}]}) == {"a": [{key: HIDDEN}]}


@pytest.mark.row("S22")
@pytest.mark.parametrize(
    "text",
    [
        f"key is {PEM}",
        "key is " + PEM.replace("-----END EC PRIVATE KEY-----", "hunter2 cut off"),
        "Authorization: Bearer hunter2hunter2",
        "password=hunter2, then",
        "api_key = 'hunter2'",
        "run --password hunter2 now",
        "run --api-key=hunter2 now",
        '{"client_secret": "hunter2"}',
        "POSTGRES_PASSWORD=hunter2",
        "https://user:hunter2@example.org/x",
        "password: hunter2",
    ],
)
def test_secrets_inside_text_are_masked(text):
    said = redact(text)
    assert HIDDEN in said
    assert "hunter2" not in said
    assert "MHcCAQEE" not in said


@pytest.mark.parametrize(
    "text",
    [
        "give another --submit-token",
        "submit_token=abc is in use",
        "no key 'x' in job.conf",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "grpcs://localhost:8002",
        "the token of site-1 is not valid",
        "keys: a, b",
    ],
)
def test_ordinary_text_is_left_alone(text):
    assert redact(text) == text


def test_whether_there_is_a_secret_may_be_said():
    assert redact({"password": None, "token": True}) == {"password": None, "token": True}


def test_a_path_is_no_secret_whatever_its_last_name_is():
    assert redact("/etc/passwd: is not a folder") == "/etc/passwd: is not a folder"
    assert redact("passwd: hunter2") == "passwd: <redacted>"
