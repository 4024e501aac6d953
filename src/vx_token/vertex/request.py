"""One request with a total timeout, without redirects, through the standard library."""

import functools
import http.client
import json
import queue
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 30.0
"""Seconds for a whole response, including its last byte."""

LARGEST = 16 * 2**20
"""Bytes of a response that are read; the fullest page of a model list is far below it."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP response, or `status` 0 and the problem; `body` is parsed JSON, None for anything else."""

    status: int
    headers: Mapping[str, str]
    body: Any
    seconds: float
    problem: str = ""


def get(environ: Mapping[str, str], url: str, headers: Mapping[str, str]) -> HttpResponse:
    """Make a GET request."""
    return _send(environ, urllib.request.Request(url, None, dict(headers)))  # noqa: S310 - http(s) by the configuration


def post(environ: Mapping[str, str], url: str, headers: Mapping[str, str], body: bytes) -> HttpResponse:
    """Make a POST request."""
    return _send(environ, urllib.request.Request(url, body, dict(headers), method="POST"))  # noqa: S310 - as in `get`


def _send(environ: Mapping[str, str], request: urllib.request.Request) -> HttpResponse:
    """Make the request in a thread with a total timeout, because a socket's timeout restarts with each byte."""
    answers: queue.SimpleQueue[HttpResponse] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(_answer(environ, request)), daemon=True).start()
    try:
        return answers.get(timeout=TIMEOUT)
    except queue.Empty:
        return HttpResponse(
            0, {}, None, 0.0, f"{urlsplit(request.full_url).hostname} did not answer within {TIMEOUT:.0f} s"
        )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, because the next host would get the token."""

    def redirect_request(self, *_: Any) -> None:
        """Refuse."""


def _answer(environ: Mapping[str, str], request: urllib.request.Request) -> HttpResponse:
    started = time.monotonic()
    try:
        with _opener(environ).open(request, timeout=TIMEOUT) as response:
            status, headers, text = response.status, response.headers, response.read(LARGEST)
    except urllib.error.HTTPError as error:
        with error:
            status, headers, text = error.code, error.headers, error.read(LARGEST)
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a header that cannot be encoded
        reason = getattr(error, "reason", None)
        cause = (
            reason if isinstance(reason, str) else getattr(reason, "strerror", None) or type(reason or error).__name__
        )
        return HttpResponse(0, {}, None, 0.0, f"{urlsplit(request.full_url).hostname} is unreachable: {cause}")
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    return HttpResponse(status, dict(headers), content, time.monotonic() - started)


def _opener(environ: Mapping[str, str]) -> urllib.request.OpenerDirector:
    """Return a client that trusts the CA files of REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE, as refreshing does."""
    bundle = environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE") or ""
    return urllib.request.build_opener(_NoRedirect, urllib.request.HTTPSHandler(context=_trust(bundle)))


@functools.lru_cache
def _trust(bundle: str) -> ssl.SSLContext:
    """Return the certificates to trust, read once, because reading the system's takes longer than a request."""
    folder = bundle if bundle and Path(bundle).is_dir() else None
    return ssl.create_default_context(cafile=None if folder else bundle or None, capath=folder)
