"""Every kind of credential, by the real google-auth, against a Google on loopback."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import certificates
from forked import fetch_here
from sandbox import Box
from vx_token.config.model import Profile
from vx_token.credentials import credential_file, google_worker
from vx_token.credentials.fetch import fetch_token, profile_of
from vx_token.credentials.token import Token, validated
from vx_token.emulator import Emulator, running
from vx_token.errors import ConfigError, LoginNeededError, TemporaryError

HOUR = 3600.0
TARGET = "robot@demo.iam.gserviceaccount.com"
IAM = "CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS"


def profile_for(box: Box, **settings: Any) -> Profile:
    """The credential file is the box's own unless told otherwise."""
    return Profile("gemini", **{"project": "demo", "credentials": str(box.key)} | settings)


def fetch(box: Box, **settings: Any) -> Token:
    """A token by the settings of a profile, fetched in this process."""
    with mock.patch.dict(os.environ, box.environ, clear=True):
        return google_worker.fetch(profile_for(box, **settings), box.environ)


def fetch_in_child(box: Box, **settings: Any) -> Token:
    """The same in a child, as users have it; google-auth reads some variables when it is imported."""
    return fetch_token(profile_for(box, **settings), box.environ, 20)


def rewrite(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None removes one."""
    document = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))


def same(token: Token, google: Emulator, identity: str) -> bool:
    """Whether it is the last one handed out, with its end, to that identity."""
    last = google.issued[-1]
    return token.value == last.value and abs(token.expires_at - last.expires_at) < 2 and last.identity == identity


def executable(box: Box, script: str) -> Path:
    """A program that an external account asks for its subject token."""
    path = box.root / "subject.sh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    rewrite(box.key, credential_source={"executable": {"command": str(path), "timeout_millis": 5000}})
    return path


def test_the_child_is_asked_for_the_very_profile() -> None:
    settings = {"scopes": ("a", "b"), "on_refresh": (("a", "b c"), ("d",)), "aliases": {"a": "b"}, "models": ("m",)}
    profile = Profile("gemini", "demo", refresh_margin=None, **settings)  # type: ignore[arg-type]
    assert profile_of(json.loads(json.dumps(asdict(profile)))) == profile


def test_a_service_account_gets_a_token(box: Box, google: Emulator) -> None:
    account = google.service_account(box.key)
    token = fetch(box)
    assert same(token, google, account)
    assert (token.kind, token.account, token.quota_project, token.note) == ("service_account", account, "", "")
    assert token.lifetime == pytest.approx(HOUR, abs=2)


def test_a_user_gets_a_token_with_the_files_quota_project(box: Box, google: Emulator) -> None:
    user = google.authorized_user(box.key, quota_project_id="billing")
    token = fetch(box)
    assert same(token, google, user)
    assert (token.kind, token.quota_project) == ("authorized_user", "billing")


def test_the_profiles_quota_project_beats_the_files(box: Box, google: Emulator) -> None:
    google.authorized_user(box.key, quota_project_id="billing")
    assert fetch(box, quota_project="other").quota_project == "other"


def test_a_service_account_has_no_quota_project(box: Box, google: Emulator) -> None:
    google.service_account(box.key)
    assert not fetch(box, quota_project="other").quota_project


@pytest.mark.parametrize("source", ["service_account", "authorized_user"])
def test_a_file_can_impersonate(box: Box, google: Emulator, source: str) -> None:
    google.impersonated(box.key, TARGET, source)
    token = fetch(box)
    assert same(token, google, TARGET)
    assert token.kind == "impersonated_service_account"
    assert token.account == TARGET
    assert token.lifetime == pytest.approx(HOUR, abs=2)


@pytest.mark.parametrize("source", ["service_account", "authorized_user"])
def test_a_profile_can_impersonate(box: Box, google: Emulator, source: str) -> None:
    google.credentials(source, box.key)
    google.allow(TARGET)
    box.environ[IAM] = google.url
    token = fetch(box, impersonate=TARGET, quota_project="billing")
    assert same(token, google, TARGET)
    assert (token.kind, token.account, token.quota_project) == ("impersonated", TARGET, "")


def test_a_longer_life_is_had_where_it_is_allowed(box: Box, google: Emulator) -> None:
    google.service_account(box.key)
    google.allow(TARGET)
    google.extended_lifetimes = True
    box.environ[IAM] = google.url
    token = fetch(box, impersonate=TARGET, lifetime=6 * HOUR)
    assert token.lifetime == pytest.approx(6 * HOUR, abs=2)
    assert not token.note


def test_a_longer_life_that_is_refused_becomes_an_hour_and_a_note(box: Box, google: Emulator) -> None:
    google.service_account(box.key)
    google.allow(TARGET)
    box.environ[IAM] = google.url
    token = fetch(box, impersonate=TARGET, lifetime=6 * HOUR)
    assert token.lifetime == pytest.approx(HOUR, abs=2)
    assert "allowServiceAccountCredentialLifetimeExtension" in token.note
    assert google.count("iam", 400) == google.count("iam", 200) == 1


def test_a_service_account_of_another_universe_signs_its_token_itself(box: Box, google: Emulator) -> None:
    name = google.service_account(box.key)
    rewrite(box.key, universe_domain="apis.example")
    token = fetch_here(Profile("gemini", "demo", credentials=str(box.key)), {})
    assert (token.account, token.value.count("."), google.issued) == (name, 2, [])
    described = credential_file.describe(box.key)
    assert (described.problem, described.universe) == ("", "apis.example")


def test_a_workload_exchanges_its_proof(box: Box, google: Emulator) -> None:
    workload = google.external_account(box.key, box.root / "subject")
    token = fetch(box)
    assert same(token, google, workload)
    assert token.kind == "external_account"


def test_a_workload_can_impersonate(box: Box, google: Emulator) -> None:
    google.external_account(box.key, box.root / "subject", TARGET)
    token = fetch(box)
    assert same(token, google, TARGET)
    assert google.count("sts", 200) == google.count("iam", 200) == 1


@pytest.mark.parametrize(
    ("own", "asked", "had"), [(None, 6 * HOUR, 6 * HOUR), (7200, HOUR, 2 * HOUR), (7200, 6 * HOUR, 6 * HOUR)]
)
def test_a_workload_that_impersonates_gets_the_life_asked_for(
    box: Box, google: Emulator, own: int | None, asked: float, had: float
) -> None:
    google.external_account(box.key, box.root / "subject", TARGET)
    if own:
        rewrite(box.key, service_account_impersonation={"token_lifetime_seconds": own})
    google.extended_lifetimes = True
    token = fetch(box, lifetime=asked)
    assert token.lifetime == pytest.approx(had, abs=2)
    assert not token.note


@pytest.mark.parametrize(("own", "asked"), [(None, 6 * HOUR), (7200, HOUR), (7200, 6 * HOUR)])
def test_a_workload_whose_longer_life_is_refused_gets_an_hour_and_a_note(
    box: Box, google: Emulator, own: int | None, asked: float
) -> None:
    google.external_account(box.key, box.root / "subject", TARGET)
    if own:
        rewrite(box.key, service_account_impersonation={"token_lifetime_seconds": own})
    token = fetch(box, lifetime=asked)
    assert token.lifetime == pytest.approx(HOUR, abs=2)
    assert "allowServiceAccountCredentialLifetimeExtension" in token.note
    assert google.count("iam", 400) == google.count("iam", 200) == 1


@pytest.mark.parametrize("source", ["impersonated", "external_account"])
def test_what_stands_between_is_not_asked_to_live_longer(box: Box, google: Emulator, source: str) -> None:
    between = "between@demo.iam.gserviceaccount.com"
    if source == "impersonated":
        google.impersonated(box.key, between)
    else:
        google.external_account(box.key, box.root / "subject", between)
    google.allow(TARGET)
    google.extended_lifetimes = True
    box.environ[IAM] = google.url
    token = fetch(box, impersonate=TARGET, lifetime=6 * HOUR)
    assert token.lifetime == pytest.approx(6 * HOUR, abs=2)
    lives = [one.expires_at - one.issued_at for one in google.issued if one.route == "iam"]
    assert lives == pytest.approx([HOUR, 6 * HOUR], abs=2)


def test_a_program_can_give_the_proof_once_that_is_allowed(box: Box, google: Emulator) -> None:
    workload = google.external_account(box.key, box.root / "subject")
    answer = {
        "version": 1,
        "success": True,
        "token_type": "urn:ietf:params:oauth:token-type:jwt",
        "id_token": (box.root / "subject").read_text(),
        "expiration_time": int(time.time() + HOUR),
    }
    executable(box, f"echo '{json.dumps(answer)}'")
    with pytest.raises(ConfigError, match="names a program to run") as failure:
        fetch(box)
    assert "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1" in failure.value.hint
    box.environ["GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES"] = "1"
    assert same(fetch(box), google, workload)


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.chmod(0o600)], ids=["gone", "not executable"])
def test_a_program_that_cannot_be_started_is_no_fault_of_the_file(
    box: Box, google: Emulator, spoil: Callable[[Path], None]
) -> None:
    google.external_account(box.key, box.root / "subject")
    spoil(executable(box, "exit 0"))
    box.environ["GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES"] = "1"
    with pytest.raises(TemporaryError, match=r"the subject token that .* names is not available"):
        fetch(box)


def test_a_workload_gets_its_proof_from_a_url(box: Box, google: Emulator) -> None:
    workload = google.external_account_by_url(box.key)
    assert same(fetch(box), google, workload)
    google.fail("subject", None)
    with pytest.raises(TemporaryError):
        fetch(box)


@pytest.mark.parametrize("place", ["machine", "environment"])
def test_a_workload_at_aws_gets_a_token(box: Box, google: Emulator, place: str) -> None:
    workload = google.external_account_at_aws(box.key)
    if place == "environment":  # as in AWS Lambda, which has no metadata server
        role = next(iter(google.directory.roles.values()))
        keys = {
            "AWS_ACCESS_KEY_ID": role.key_id,
            "AWS_SECRET_ACCESS_KEY": role.secret,
            "AWS_SESSION_TOKEN": role.session,
        }
        box.environ |= keys | {"AWS_REGION": "us-east-2"}
    token = fetch(box)
    assert same(token, google, workload)
    assert token.kind == "external_account"
    assert google.count("aws", 200) == (5 if place == "machine" else 0)


def test_a_machine_at_aws_without_a_role_is_a_wait(box: Box, google: Emulator) -> None:
    google.external_account_at_aws(box.key)
    google.directory.roles.clear()
    with pytest.raises(TemporaryError, match="answered HTTP 404"):
        fetch(box)


def test_an_aws_key_that_google_does_not_know_is_for_a_human(box: Box, google: Emulator) -> None:
    google.external_account_at_aws(box.key)
    box.environ |= {
        "AWS_ACCESS_KEY_ID": "AKIAOTHER",
        "AWS_SECRET_ACCESS_KEY": "s3cr3t-value",
        "AWS_REGION": "us-east-2",
    }
    with pytest.raises(LoginNeededError) as failure:
        fetch(box)
    assert "s3cr3t" not in failure.value.message + failure.value.hint
    assert str(box.key) in failure.value.hint


def test_a_workload_shows_its_certificate(box: Box) -> None:
    certificate = certificates.issued(box.root)
    box.environ["REQUESTS_CA_BUNDLE"] = str(certificate.trusted)
    with running(tls=certificate.server) as google:
        workload = google.external_account_by_certificate(box.key, certificate.config)
        assert same(fetch(box), google, workload)
        certificate.leaf.unlink()
        with pytest.raises(TemporaryError, match="subject token"):
            fetch(box)


def test_a_service_identity_of_distributed_cloud_gets_a_token(box: Box, google: Emulator) -> None:
    identity = google.gdch(box.key)
    token = fetch_in_child(box, base_url="https://vertex.org-1.zone1.example.com/v1")
    assert same(token, google, identity)
    assert (token.kind, token.quota_project) == ("gdch_service_account", "")
    assert token.lifetime == pytest.approx(HOUR, abs=2)
    google.revoke_identity(identity)
    with pytest.raises(LoginNeededError) as failure:
        fetch_in_child(box)
    assert failure.value.hint == f"get a new key file for the service identity: {box.key}"


def test_a_workforce_user_gets_a_token(box: Box, google: Emulator) -> None:
    user = google.external_account_authorized_user(box.key)
    token = fetch(box, quota_project="billing")
    assert same(token, google, user)
    assert (token.kind, token.quota_project) == ("external_account_authorized_user", "billing")


def test_a_metadata_server_gives_a_token(box: Box, google: Emulator) -> None:
    box.environ["GCE_METADATA_HOST"] = google.metadata_host
    token = fetch(box, credentials="")
    assert same(token, google, google.metadata_account)
    assert token.kind == "metadata"
    # Four requests a token life are allowed; tests/daemon/test_days.py shows that a life has one attempt.
    assert google.count("metadata") + google.count("metadata-info") == 2


def test_a_machine_can_impersonate(box: Box, google: Emulator) -> None:
    google.allow(TARGET)
    box.environ |= {"GCE_METADATA_HOST": google.metadata_host, IAM: google.url}
    assert same(fetch_in_child(box, credentials="", impersonate=TARGET), google, TARGET)


def test_no_login_at_all_is_told_at_once_with_the_command_that_helps(box: Box) -> None:
    box.environ["NO_GCE_CHECK"] = "true"  # should this machine be one of Google's
    del box.environ["VX_TOKEN_CONFIG"]
    box.environ["GOOGLE_CLOUD_PROJECT"] = "demo"
    started = time.monotonic()
    done = box.vx("print")
    assert time.monotonic() - started < 3
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == "vx-token: no Google login was found\nhint: run: gcloud auth application-default login\n"


def test_the_credential_file_is_found_as_google_finds_it(box: Box, google: Emulator) -> None:
    gcloud = box.home / ".config" / "gcloud" / "application_default_credentials.json"
    gcloud.parent.mkdir(parents=True)
    user = google.authorized_user(gcloud)
    assert same(fetch(box, credentials=""), google, user)

    moved = box.root / "gcloud"
    moved.mkdir()
    other = google.authorized_user(moved / gcloud.name)
    box.environ["CLOUDSDK_CONFIG"] = str(moved)
    assert same(fetch(box, credentials=""), google, other)

    account = google.service_account(box.key)
    box.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(box.key)
    assert same(fetch(box, credentials=""), google, account)


def test_the_credential_file_is_read_anew_each_time(box: Box, google: Emulator) -> None:
    for _ in range(2):
        account = google.service_account(box.key)
        assert same(fetch(box), google, account)


def test_gcloud_is_never_called(box: Box, google: Emulator) -> None:
    programs = box.root / "bin"
    programs.mkdir()
    (programs / "gcloud").write_text(f"#!/bin/sh\necho called >> {box.root}/called\nsleep 60\n")
    (programs / "gcloud").chmod(0o700)
    box.environ["PATH"] = f"{programs}:{box.environ['PATH']}"
    gcloud = box.home / ".config" / "gcloud" / "application_default_credentials.json"
    gcloud.parent.mkdir(parents=True)
    google.authorized_user(gcloud)
    fetch(box, credentials="")
    assert not (box.root / "called").exists()


def _remove(path: Path) -> None:
    path.unlink()


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


WRECKS: dict[str, Callable[[Path], object]] = {
    "missing": _remove,
    "a folder": _directory,
    "a pipe": _pipe,
    "a link to itself": _loop,
    "empty": lambda path: path.write_text(""),
    "no JSON": lambda path: path.write_text("-----BEGIN PRIVATE KEY-----"),
    "cut short": lambda path: path.write_text(path.read_text()[:200]),
    "binary": lambda path: path.write_bytes(b"\xff\xfe\x00{"),
    "a list": lambda path: path.write_text("[]"),
    "null": lambda path: path.write_text("null"),
    "of no type": lambda path: rewrite(path, type=None),
    "of another type": lambda path: rewrite(path, type="api_key"),
    "of a list for a type": lambda path: rewrite(path, type=["service_account"]),
    "without its key": lambda path: rewrite(path, private_key=None),
    "with a broken key": lambda path: rewrite(path, private_key="-----BEGIN PRIVATE KEY-----\nAAAA\n"),
    "with a number for a key": lambda path: rewrite(path, private_key=7),
    "without its token_uri": lambda path: rewrite(path, token_uri=None),
    "a user without a refresh token": lambda path: rewrite(path, type="authorized_user"),
    "impersonated without a source": lambda path: rewrite(path, type="impersonated_service_account"),
    "a workload without a source": lambda path: rewrite(path, type="external_account"),
}


@pytest.mark.parametrize("wreck", WRECKS)
def test_a_broken_credential_file_is_a_configuration_error(box: Box, google: Emulator, wreck: str) -> None:
    google.service_account(box.key)
    WRECKS[wreck](box.key)
    with pytest.raises(ConfigError) as failure:
        fetch(box)
    assert str(box.key) in failure.value.message
    assert failure.value.hint
    assert "PRIVATE" not in failure.value.message + failure.value.hint
    assert google.requests == []


def test_an_unreadable_credential_file_is_a_configuration_error(signed_in: Box, require: Callable[[str], str]) -> None:
    signed_in.key.chmod(0)
    # Root reads everything unless that right is taken away.
    drop = [require("setpriv"), "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*drop, *signed_in.command("print")], env=signed_in.environ, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(
        f"vx-token: the credential file {signed_in.key} cannot be read: Permission denied\nhint: "
    )


def test_a_library_that_is_missing_is_no_fault_of_the_credential_file(box: Box, google: Emulator) -> None:
    google.external_account_at_aws(box.key)
    (box.root / "sitecustomize.py").write_text("import sys\nsys.modules['google.auth.aws'] = None\n")
    box.environ["PYTHONPATH"] = f"{box.root}:{box.environ['PYTHONPATH']}"
    with pytest.raises(ConfigError, match="a library that it needs for this login, cannot be imported"):
        fetch_in_child(box)


def test_a_byte_order_mark_does_no_harm(box: Box, google: Emulator) -> None:
    account = google.service_account(box.key)
    box.key.write_bytes(b"\xef\xbb\xbf" + box.key.read_bytes())
    assert same(fetch(box), google, account)


def test_who_may_not_impersonate_is_told_the_grant_that_helps(box: Box, google: Emulator) -> None:
    account = google.service_account(box.key)
    box.environ[IAM] = google.url
    with pytest.raises(LoginNeededError) as failure:
        fetch(box, impersonate=TARGET)
    assert failure.value.message == f"this login may not impersonate {TARGET}"
    assert failure.value.hint == (
        f"run: gcloud iam service-accounts add-iam-policy-binding {TARGET}"
        f" --member=serviceAccount:{account} --role=roles/iam.serviceAccountTokenCreator"
    )


@pytest.mark.parametrize("status", [403, 404])
def test_a_proxys_page_instead_of_iams_answer_is_worth_a_retry(box: Box, google: Emulator, status: int) -> None:
    google.service_account(box.key)
    google.allow(TARGET)
    box.environ[IAM] = google.url
    google.fail("iam", status=status, body="<html><title>Blocked</title></html>")
    with pytest.raises(TemporaryError, match=f"HTTP {status}"):
        fetch(box, impersonate=TARGET)
    assert same(fetch(box, impersonate=TARGET), google, TARGET)


GOOD = "ya29.a-b_c~d+e/f=="


@pytest.mark.parametrize("value", [GOOD, "x", "x" * 16384])
def test_a_bearer_as_rfc_6750_allows_it_is_taken(value: str) -> None:
    assert validated(Token(value, 100.0, 0.0), 50.0).value == value


@pytest.mark.parametrize("value", ["", None, 7, GOOD + "\n", "a b", "a'b", "a=b", "ä", "a\0", "x" * 16385])
def test_what_can_be_no_bearer_is_refused(value: Any) -> None:
    with pytest.raises(TemporaryError, match="no usable token"):
        validated(Token(value, 100.0, 0.0), 50.0)


@pytest.mark.parametrize("end", [0.0, -60.0, 50.0, 50.0 + 13 * HOUR])
def test_an_end_that_cannot_be_is_refused(end: float) -> None:
    with pytest.raises(TemporaryError, match="plausible end"):
        validated(Token(GOOD, end, 0.0), 50.0)
