"""What the fuzzers of scripts/prove-security feed with any bytes, and what must hold for each of them.

Hypothesis uses these in `test_fuzz`; a coverage-guided fuzzer calls them through scripts/fuzz_coverage.py.
"""

import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from vx_token.config.load import parse_config
from vx_token.config.model import Profile
from vx_token.credentials import credential_file, google_errors
from vx_token.credentials.google_errors import Login
from vx_token.credentials.token import Token, validated
from vx_token.errors import VxTokenError
from vx_token.gateway import guard, headers
from vx_token.gateway.answer_calls import AnswerCalls
from vx_token.gateway.errors import GatewayError
from vx_token.gateway.models import model_id, rewrite
from vx_token.gateway.settings import Route, SignatureSettings
from vx_token.gateway.signature_memory import Scope
from vx_token.gateway.thought_signatures import STAND_IN, ThoughtSignatures
from vx_token.gateway.usage import UsageMeter
from vx_token.tokens import state_file
from vx_token.tokens.model import Origin, State

SECRET = "ya29.a-secret-that-no-message-may-show"
NOW = 1_800_000_000.0
MODEL = "google/gemini-3-pro-preview"
ROUTE = Route("p", "https://host/base", aliases={"gpt-4o": "google/gemini-2.5-pro"}, publisher="google", model=MODEL)
SCOPE = Scope("p", "https://host/base", "me", MODEL, b"key")
FOLDER = Path(tempfile.gettempdir())


def _written(content: bytes) -> Path:
    """A private file with this content, one for each process."""
    path = FOLDER / f"vx-token-fuzz-{os.getpid()}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return path


def _is_clean(error: VxTokenError) -> None:
    assert error.message.isprintable()
    assert error.hint.isprintable()
    assert SECRET not in error.message + error.hint


def configuration(data: bytes) -> None:
    """Any configuration is taken or refused in one printable line."""
    try:
        config = parse_config(data.decode("utf-8", "surrogateescape"), Path("/c.toml"), {}, {}, Path("/work"))
    except VxTokenError as error:
        _is_clean(error)
    else:
        assert all(profile.url.startswith(("https://", "http://")) for profile in config.profiles.values())


def state(data: bytes) -> None:
    """Any state file gives a state that can be written again, and no token that breaks a header."""
    found = state_file.read(_written(data))
    assert state_file.read(_written(state_file.encode("p", found))) == found
    assert found.token is None or re.fullmatch(r"[!-~]+", found.token.value)


def credentials(data: bytes) -> None:
    """Any credential file gives a login or an error without its secrets."""
    path = _written(data)
    file = credential_file.describe(path)
    assert all(each.isprintable() for each in (file.kind, file.account, file.project, file.token_uri))
    try:
        login, content = credential_file.find(Profile("p", project="demo", credentials=str(path)), {})
    except VxTokenError as error:
        _is_clean(error)
    else:
        assert isinstance(content, dict)
        assert (login.account + login.target).isprintable()


def googles_answer(data: bytes) -> None:
    """Any answer is judged by its status and error code, without a word of it in the message."""
    status = (200, 301, 400, 401, 403, 404, 429, 500, 503)[data[0] % 9] if data else 200
    path = ("/token", "/x:generateAccessToken")[len(data) % 2]
    body = data[1:] + SECRET.encode()
    answer = google_errors.read("host", path, status, {"Retry-After": data[1:20].decode("latin-1")}, body, NOW)
    for login in (Login("authorized_user", "/adc.json"), Login("service_account", "/key.json", "a@b")):
        _is_clean(google_errors.judge(answer, login))
    with _allowed(VxTokenError):
        token = validated(Token(data.decode("latin-1"), NOW + 60, NOW), NOW)
        assert re.fullmatch(r"[!-~]+", token.value)


def request_target(data: bytes) -> None:
    """Any request target stays below the base URL or is refused."""
    with _allowed(GatewayError):
        parsed = guard.parse_target(data.decode("utf-8", "surrogateescape"), {"p"}, "p")
        path, _, query = parsed.url("https://host/base").partition("?")
        assert path.startswith("https://host/base/")
        decoded = unquote(path.removeprefix("https://host"))
        assert not re.search(r"(^|/)\.{1,2}($|[/;])|//|%|\\|#|\s", decoded)
        assert not re.search(r"[^!-~]|#", query)


def request_headers(data: bytes) -> None:
    """Any headers give upstream one bearer, Google's, and none that frames or routes the message."""
    text = data.decode("utf-8", "surrogateescape")
    pairs = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in text.split("\n"))]
    sent = headers.to_upstream(pairs, Token(SECRET, NOW, NOW), {"X-Team": "blue"})
    names = [name.lower() for name, _ in sent]
    assert [value for name, value in sent if name.lower() == "authorization"] == [f"Bearer {SECRET}"]
    assert not {"host", "content-length", "transfer-encoding", "te", "connection", "upgrade", "cookie"} & set(names)
    assert [value for name, value in sent if name.lower() == "x-team"] == ["blue"]
    with _allowed(GatewayError):
        guard.check_host([value for name, value in pairs if name.lower() == "host"])
        host = next(value for name, value in pairs if name.lower() == "host")
        assert re.match(r"(?i)(localhost|127\.\d+\.\d+\.\d+|\[[0:.]*(ffff:)?[0-9a-f:.]+\])(:\d+)?$", host)
    with _allowed(GatewayError):
        origins = [value for name, value in pairs if name.lower() == "origin"]
        assert guard.check_origin(origins, [], {"https://a"}) in ({"https://a"} if origins else {""})
    guard.bearer([value for name, value in pairs if name.lower() == "authorization"])
    for name, _ in headers.to_client(pairs):
        assert name.lower() not in {"set-cookie", "connection", "transfer-encoding"}
        assert not name.lower().startswith("access-control-")


def request_body(data: bytes) -> None:
    """In any body only the model changes; what is no JSON stays as it is."""
    for whole in (True, False):
        changed = rewrite(data, ROUTE, "chat/completions", whole=whole)
        before, after = _json(data), _json(changed)
        if isinstance(before, dict):
            assert isinstance(after, dict)
            assert {**before, "model": ""} == {**after, "model": ""}
        elif before is not None:
            assert changed == data
    model_id(data)


def signatures_in_request(data: bytes) -> None:
    """A request without the signatures that were put in is the request that came."""
    out = ThoughtSignatures(SignatureSettings(), lambda *_: None).restore(data, SCOPE)
    assert out.replace(f'"extra_content":{STAND_IN},'.encode(), b"") == data.replace(
        f'"extra_content":{STAND_IN},'.encode(), b""
    )
    if _json(data) is not None:
        assert _json(out) is not None


def signatures_in_answer(data: bytes) -> None:
    """Any answer, JSON or events, compressed or not, is read in pieces of any size with the same result."""
    step = 1 + (data[0] if data else 0)
    for kind in ("text/event-stream", "application/json"):
        for encoding in ("", "gzip", "deflate"):
            results = []
            for size in (len(data) + 1, step):
                calls: list[tuple[Any, str]] = []
                reader = AnswerCalls(kind, encoding, lambda call, extra, into=calls: into.append((call, extra)))  # type: ignore[misc]
                for at in range(0, len(data), size):
                    reader.feed(data[at : at + size])
                reader.end()
                results.append(calls)
            assert all(isinstance(_json(extra.encode()), dict) for _, extra in results[0])
            assert encoding or results[0] == results[1]


def usage(data: bytes) -> None:
    """The usage of any answer is two numbers, the same however it is cut."""
    step = 1 + (data[0] if data else 0)
    for encoding in ("", "gzip", "br"):
        results = []
        for size in (len(data) + 1, step):
            meter = UsageMeter(encoding)
            for at in range(0, len(data), size):
                meter.feed(data[at : at + size])
            results.append(meter.usage())
            assert meter.size == len(data)
        assert encoding or results[0] == results[1]
        assert min(results[0].prompt, results[0].answer) >= 0


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


@dataclass(frozen=True)
class _allowed:  # noqa: N801 - a context manager, as contextlib.suppress is
    """Ends the block quietly at this error, and at no other."""

    kind: type[Exception]

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        """Swallow the allowed error alone."""
        return kind is not None and issubclass(kind, self.kind)


CALL = b'{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}'
TARGETS: Mapping[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "configuration": (
        configuration,
        [
            b'default_profile="a"\n[profiles.a]\nproject="p"\nlocation="us"\nlifetime="4h"\nexport=["goose","A_KEY={token}"]\n',
            b'[gateway]\nport=1\nallowed_origins=["https://a"]\n[profiles.b]\nbase_url="https://x/v1"\n[profiles.b.aliases]\na="b"\n',
            b'[profiles.a]\nproject="p"\n[[profiles.a.files]]\npath="~/x"\nformat="json"\n',
        ],
    ),
    "state": (
        state,
        [state_file.encode("p", State(Token("ya29.x", 2.0, 1.0), Origin("s", "/k", "1:2:3"), 7))],
    ),
    "credential file": (
        credentials,
        [
            b'{"type":"authorized_user","client_id":"a","client_secret":"%s","refresh_token":"%s"}'
            % ((SECRET.encode(),) * 2),
            b'{"type":"service_account","client_email":"a@b","private_key":"%s","token_uri":"https://x"}'
            % SECRET.encode(),
            b'{"type":"external_account","audience":"//x","credential_source":{"executable":{"command":"x"}}}',
            b'{"type":"impersonated_service_account","service_account_impersonation_url":"https://x/a:generateAccessToken"}',
        ],
    ),
    "Google's answers": (
        googles_answer,
        [
            b'\x02{"error":"invalid_grant","error_subtype":"invalid_rapt"}',
            b'\x04{"error":{"code":403,"status":"DENIED"}}',
        ],
    ),
    "request targets": (request_target, [b"/v1/chat/completions?a=1&key=2", b"/p/v1/a%2fb/..;x", b"/v1/%2e%2e/x"]),
    "headers": (
        request_headers,
        [b"Host: localhost:1\nAuthorization: Bearer x\nConnection: X-A\nX-A: 1\nOrigin: https://a"],
    ),
    "body rewriting": (
        request_body,
        [b'{"model":"gpt-4o","messages":[{"role":"user","content":"\\u00e9"}]}', b'{"a":1}'],
    ),
    "signatures in requests": (
        signatures_in_request,
        [b'{"model":"x","messages":[{"role":"assistant","tool_calls":[' + CALL + b"}]}]}"],
    ),
    "signatures in answers": (
        signatures_in_answer,
        [
            b'data: {"choices":[{"index":0,"delta":{"tool_calls":['
            + CALL
            + b',"index":0,"extra_content":{"g":{}}}]}}]}\n\n'
            b'data: {"choices":[{"index":0,"finish_reason":"stop","delta":{}}]}\n\ndata: [DONE]\n\n',
            b'{"choices":[{"message":{"tool_calls":[' + CALL + b',"extra_content":{"google":{}}}]}}]}',
        ],
    ),
    "usage meter": (usage, [b'data: {"usage":{"prompt_tokens":5,"completion_tokens":7}}\n\ndata: [DONE]\n\n']),
}
"""Each target with inputs to start from."""
