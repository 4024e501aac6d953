"""Every kind of credential, from the file to the answer that a stock client gets, across natural expiries."""

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

import certificates
from credential_kinds import IAM, KINDS
from google_hosts import leading_to
from sandbox import Box, until
from vx_token.cli import fastpath
from vx_token.emulator import Emulator, running

MODEL = "google/gemini-2.5-flash"


@pytest.fixture
def identities(box: Box, google: Emulator) -> dict[str, str]:
    """One profile for each kind, and the identity that its tokens must have."""
    google.extended_lifetimes = True
    found = {}
    box.config.write_text('default_profile = "key"\n')
    for kind, (write, settings) in KINDS.items():
        path = box.root / f"{kind}.json"
        found[kind] = write(google, path)
        box.profile(kind, url=google.base_url(), credentials=str(path), **settings)
    found["account"] = google.gcloud_login(box.home / ".config/gcloud")
    box.profile("account", url=google.base_url(), credentials=None, account=found["account"])
    found["metadata"] = google.metadata_account
    box.profile("metadata", url=google.base_url(), credentials=None)
    box.environ |= {
        IAM: google.url,
        "GCE_METADATA_HOST": google.metadata_host,
        "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES": "1",
    }
    return found


@contextmanager
def rotated(google: Emulator, subject: Path) -> Iterator[None]:
    """A subject token that is replaced all the time, as Kubernetes does each hour."""
    stop = threading.Event()

    def rotate() -> None:
        while not stop.wait(0.5):
            google.replace_subject_token(subject)

    thread = threading.Thread(target=rotate)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def answered(key: str, url: str, **options: Any) -> bool:
    """Whether a stock client with this key gets an answer."""
    with openai.OpenAI(api_key=key, base_url=url, max_retries=0, **options) as client:
        reply = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello"}])
        return bool(reply.choices)


def printed(box: Box, profile: str) -> str:
    """What `vx-token print` prints, the quick way if that knows."""
    words = ["print", "--profile", profile]
    found = fastpath.answer(["vx-token", *words], box.environ, time.time())
    return (found or box.vx(*words).stdout).strip()


def outlive(
    box: Box, google: Emulator, identities: Mapping[str, str], options: Callable[[], dict[str, Any]] = dict
) -> None:
    """Use each profile's token over more than one life, while the daemon keeps it fresh, and what `print` prints.

    `options` makes those of a stock client.
    """
    seen: dict[str, set[str]] = {kind: set() for kind in identities}
    until(lambda: all(box.read("token", kind) for kind in identities), 60, what="a token of each kind")
    end = time.time() + 1.4 * google.lifetime
    while time.time() < end:
        for kind, identity in identities.items():
            token = until(lambda kind=kind: box.read("token", kind), 100)  # type: ignore[misc]
            assert google.identity_of(token) == identity, kind
            assert answered(token, google.base_url(), **options()), kind
            seen[kind].add(token)
        time.sleep(0.2)  # the tokens need not keep the processor busy
    for kind, identity in identities.items():
        token = printed(box, kind)
        assert google.identity_of(token) == identity, kind
        assert answered(token, google.base_url(), **options()), kind
    assert not [request for request in google.requests if request.route == "chat" and request.status != 200]
    states = box.vx("status").stdout
    assert {kind: len(tokens) for kind, tokens in seen.items() if len(tokens) < 2} == {}, states


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_kind_is_kept_fresh_across_natural_expiries(
    box: Box, google: Emulator, identities: Mapping[str, str]
) -> None:
    google.lifetime = 30.0  # a refresh of all of them takes eight seconds of two slow cores
    with box.daemon(), rotated(google, box.root / "file.subject"):
        outlive(box, google, identities)


@pytest.mark.slow
def test_a_workload_with_a_certificate_is_kept_fresh_across_natural_expiries(box: Box) -> None:
    certificate = certificates.issued(box.root)
    box.environ["REQUESTS_CA_BUNDLE"] = str(certificate.trusted)
    with running(tls=certificate.server, lifetime=15.0) as google:
        identity = google.external_account_by_certificate(box.key, certificate.config)
        box.profile("certificate", url=google.base_url())
        with box.daemon():
            shown = certificate.client()
            outlive(
                box, google, {"certificate": identity}, lambda: {"http_client": openai.DefaultHttpxClient(verify=shown)}
            )


ADDRESSES = {
    "/v1/projects/-/": "https://iamcredentials.googleapis.com",
    "/v1/token": "https://sts.googleapis.com",
    "/token": "https://oauth2.googleapis.com",
}


@pytest.mark.parametrize("kind", ["key", "user", "impersonated-file", "impersonating", "file"])
def test_googles_fixed_hosts_are_reached_through_a_proxy_with_a_certificate_of_its_own(
    box: Box, google: Emulator, kind: str
) -> None:
    write, settings = KINDS[kind]
    identity = write(google, box.key)
    text = box.key.read_text()
    for path, host in ADDRESSES.items():
        text = text.replace(f"{google.url}{path}", f"{host}{path}")
    assert google.url not in text  # only the proxy leads to the emulator
    box.key.write_text(text)
    box.profile(url="", **settings)
    with leading_to(google, box.root) as way:
        box.environ |= way
        printed = json.loads(box.vx("print", "--format", "json").stdout)
        assert google.identity_of(printed["token"]) == identity
        trust = ssl.create_default_context(cafile=way["REQUESTS_CA_BUNDLE"])
        with openai.DefaultHttpxClient(proxy=way["https_proxy"], verify=trust) as client:
            assert answered(printed["token"], printed["base_url"], http_client=client)
    assert printed["base_url"].startswith("https://aiplatform.googleapis.com/")
