"""Every error code that is documented is caused by a test, or it is said why nothing can cause it."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

from flpoc.errors import EXIT_STATUS
from inventory.walk import STEPS

ROOT = Path(__file__).resolve().parents[2]

#: What people know from comparable systems, and why it does not come up here.
NEVER = {
    "STARTUP_KIT_NOT_CONFIGURED": "a kit that is missing has one code, STARTUP_KIT_MISSING, in every command",
    "SERVER_UNREACHABLE": "a server that cannot be reached has one code, CONNECTION_FAILED",
    "CLI_ERROR": "whatever goes wrong has a code of its own",
    "LOCK_TIMEOUT": "one thread writes at the server: changes of studies follow each other and wait for no lock",
    "JOB_ABANDONED": "no job is ever abandoned",
    "UNSIGNED_JOB_REJECTED": "there is no way to send a job without a signature; a wrong one is AUTH_FAILED",
    "RECIPE_RUNNER_FAILED": "a program that fails while it exports is RECIPE_EXPORT_FAILED",
    "CERT_GENERATION_FAILED": "making a certificate has no way to fail besides signing and writing",
    "CSR_GENERATION_FAILED": "making a request has no way to fail besides its names and writing",
}
#: Documented for commands that are not built, or come later.
LATER = (
    "AGENT_SUBCOMMAND_REQUIRED",
    "DEPLOY_PREPARE_FAILED",
    "OUTPUT_STAGED",
    "KUBECTL_NOT_FOUND",
    "KUBECTL_FAILED",
)
DOCUMENTED = {
    2: "CONNECTION_FAILED AUTH_FAILED STARTUP_KIT_MISSING SYSTEM_NOT_READY SERVICE_FAILED VERSION_MISMATCH",
    3: "TIMEOUT",
    4: "INVALID_ARGS LOG_CONFIG_INVALID INVALID_STUDY_NAME INVALID_SITE JOB_NOT_DONE SUBMIT_TOKEN_CONFLICT "
    "SUBMIT_TOKEN_JOB_DELETED CSR_NOT_FOUND REQUEST_ZIP_NOT_FOUND INVALID_NAME INVALID_CERT_TYPE INVALID_PROJECT_NAME "
    "INVALID_ROOTCA_FINGERPRINT PROJECT_CA_MISMATCH PROJECT_PROFILE_MISMATCH SERVER_NAME_HOST_MISMATCH "
    "PROJECT_FILE_NOT_FOUND INVALID_SIGNED_ZIP SIGNED_ZIP_IDENTITY_CONFLICT ROOTCA_FINGERPRINT_MISMATCH "
    "ROOTCA_LOAD_FAILED LOCAL_SITE_MISMATCH LOCAL_SITE_INVALID LOCAL_SITE_UNSUPPORTED_FEATURE REQUEST_DIR_NOT_FOUND "
    "REQUEST_DIR_MISMATCH REQUEST_METADATA_INVALID REQUEST_METADATA_MISMATCH INVALID_ENDPOINT UNSUPPORTED_TOPOLOGY",
    5: "INTERNAL_ERROR",
    1: "SITE_NOT_FOUND STUDY_NOT_FOUND STUDY_ALREADY_EXISTS STUDY_HAS_JOBS USER_ALREADY_IN_STUDY USER_NOT_IN_STUDY "
    "NOT_AUTHORIZED JOB_NOT_FOUND JOB_NOT_RUNNING JOB_INVALID LOG_NOT_FOUND JOB_FAILED JOB_ABORTED "
    "JOB_FINISHED_EXCEPTION OUTPUT_DIR_NOT_WRITABLE CA_ALREADY_EXISTS CA_NOT_FOUND CA_LOAD_FAILED "
    "CA_VERSION_ALREADY_EXISTS KEY_ALREADY_EXISTS CERT_ALREADY_EXISTS ROOTCA_ALREADY_EXISTS INVALID_CSR "
    "CERT_SIGNING_FAILED CERT_OUTPUT_WRITE_FAILED SIGNED_ZIP_NOT_FOUND KEY_NOT_FOUND CERT_NOT_FOUND ROOTCA_NOT_FOUND "
    "AMBIGUOUS_KEY KEY_INVALID KEY_CERT_MISMATCH CERT_TYPE_UNKNOWN CERT_CHAIN_INVALID CERT_EXPIRED OUTPUT_DIR_EXISTS "
    "BUILD_FAILED INVALID_PROJECT_FILE REQUEST_DIR_INCOMPLETE REQUEST_METADATA_NOT_FOUND NO_PARTICIPANTS",
}  # fmt: skip
#: The exit status is that of the code; of these the documents say none.
RECIPES = "RECIPE_ENTRY_NOT_FOUND RECIPE_ENTRY_AMBIGUOUS RECIPE_EXPORT_FAILED"


@cache
def asserted() -> frozenset[str]:
    """Codes that tests name besides the walk, wherever a text stands in them."""
    found: set[str] = set()
    for folder in (ROOT / "core" / "tests", *ROOT.glob("plugins/*/tests"), ROOT / "tests"):
        for path in folder.rglob("test_*.py"):
            if path == Path(__file__):
                continue
            tree = ast.parse(path.read_text(encoding="utf-8"))
            texts = [str(one.value) for one in ast.walk(tree) if isinstance(one, ast.Constant)]
            found |= {word for text in texts for word in text.replace("`", " ").split() if word.isupper()}
    return frozenset(found)


@pytest.mark.parametrize(
    ("code", "status"), [(code, status) for status, codes in DOCUMENTED.items() for code in codes.split()]
)
def test_a_documented_code_is_caused_and_has_its_exit_status(code, status):
    walked = [step for step in STEPS if step.code == code]
    assert {step.exit for step in walked} <= {status}
    assert walked or code in asserted()
    assert EXIT_STATUS.get(code, 1) == status


@pytest.mark.parametrize("code", RECIPES.split())
def test_the_codes_of_recipes_are_caused(code):
    assert code in {step.code for step in STEPS} | asserted()


def test_what_is_never_said_is_nowhere_in_the_source():
    sources = "".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "core" / "src").rglob("*.py")
        if "skeletons" not in path.parts
    )
    assert [code for code in (*NEVER, *LATER) if f'"{code}"' in sources] == []


def test_every_code_that_is_explained_is_caused():
    sys.path.insert(0, str(ROOT / "docs" / "reference"))
    try:
        import meanings
    finally:
        sys.path.pop(0)
    said = {code for code, text in meanings.CODES.items() if not text.startswith(("A finding", "In the data"))}
    #: LAUNCH_FAILED is asserted by its class
    assert sorted(said - {step.code for step in STEPS} - asserted() - {"LAUNCH_FAILED"}) == []
