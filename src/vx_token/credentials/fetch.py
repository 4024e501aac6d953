"""Runs a refresh in a short-lived child of the same interpreter, so that nothing Google's side does can harm us."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from vx_token.config.model import Profile
from vx_token.credentials.token import Token
from vx_token.errors import ConfigError, LoginNeededError, TemporaryError, VxTokenError, shortage

DEADLINE = 30.0
"""Seconds a refresh may take in all."""

SLICE = 0.1
"""Seconds between two looks at whether we were told to stop, while a child is at work."""

METADATA_HOSTS = ("169.254.169.254", "metadata.google.internal")

_KINDS: Mapping[str, type[VxTokenError]] = {"config": ConfigError, "login": LoginNeededError}


def mint(
    profile: Profile,
    environ: Mapping[str, str],
    deadline: float = DEADLINE,
    cancelled: Callable[[], bool] = lambda: False,
) -> Token:
    """Fetch a new token for `profile`; the credential file is read anew by the child.

    Args:
        profile: whose token.
        environ: where credentials, proxies and Google's own variables come from.
        deadline: seconds the child may live.
        cancelled: asked ten times a second; when true the child is ended.

    Raises:
        ConfigError, LoginNeededError, TemporaryError: by what helps; none holds a secret.
    """
    settings = asdict(profile) | {"deadline": deadline}
    try:
        child = subprocess.Popen(
            # -P: the current folder is not ours to import from.
            [sys.executable, "-P", "-m", "vx_token.credentials.google_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libraries quote tokens there
            env=_environment(environ),
            # A group of its own: what an `executable` source has started ends with it.
            start_new_session=True,
        )
    except OSError as error:
        limit = shortage(error)
        hint = limit.hint if limit else "if vx-token was installed anew: vx-token service restart"
        raise TemporaryError(f"the refresh cannot be started: {error.strerror}", hint) from None
    try:
        _ask(child, json.dumps(settings).encode())
        output = _answer(child, deadline, cancelled)
    except OSError as error:
        message = f"the refresh's own process cannot be talked to: {error.strerror}"
        raise TemporaryError(message, "the next try follows by itself") from None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.kill()
        with contextlib.suppress(OSError):
            child.communicate()
    return _decode(output)


def _ask(child: subprocess.Popen[bytes], settings: bytes) -> None:
    # Not by `communicate`: should its first slice end before it came to write, it never would. A pipe takes 64 KiB.
    if child.stdin is not None:
        question, child.stdin = child.stdin, None
        with contextlib.suppress(BrokenPipeError), question:
            question.write(settings)


def _answer(child: subprocess.Popen[bytes], deadline: float, cancelled: Callable[[], bool]) -> bytes:
    end = time.monotonic() + deadline
    while True:
        try:
            output = child.communicate(timeout=SLICE)[0]
        except subprocess.TimeoutExpired as unfinished:
            so_far = unfinished.output or b""
        else:
            if child.returncode == -signal.SIGALRM:  # its own clock was faster than ours
                raise _late(output, deadline)
            return output
        if cancelled():
            raise TemporaryError("the refresh was interrupted")
        if time.monotonic() >= end:
            raise _late(so_far, deadline)


def _late(output: bytes, deadline: float) -> TemporaryError:
    """The error for a child that the deadline ended: what its last line says to that, else Google's silence."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        late = json.loads(_last_line(output))["late"]
        return TemporaryError(str(late["message"]), str(late["hint"]))
    hint = "check the network and the proxy settings; the next try follows by itself"
    return TemporaryError(f"no answer from Google within {deadline:.0f} s", hint)


def _last_line(output: bytes) -> bytes:
    return output.strip().rpartition(b"\n")[2]


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    extra = {
        # A token bound to the child's connection would be useless in any other process.
        "GOOGLE_API_ENABLE_RUNTIME_BOUND_TOKEN": "false",
    }
    if any(environ.get(name) for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")):
        # A proxy cannot reach this machine's metadata server.
        for name in ("NO_PROXY", "no_proxy"):
            extra[name] = ",".join(filter(None, (environ.get(name), *METADATA_HOSTS)))
    return {**environ, **extra}


def _decode(output: bytes) -> Token:
    try:
        answer: dict[str, Any] = json.loads(_last_line(output))
        if "token" in answer:
            return Token(**answer["token"])
        error = answer["error"]
        kind, message, hint = str(error["kind"]), str(error["message"]), str(error["hint"])
    except (ValueError, TypeError, KeyError):
        # from None: the cause would quote what the child wrote.
        hint = "the next try follows by itself; `vx-token doctor` looks closer"
        raise TemporaryError("the refresh ended without an answer (out of memory, or killed)", hint) from None
    if kind in _KINDS:
        raise _KINDS[kind](message, hint)
    raise TemporaryError(message, hint, error.get("retry_after"))
