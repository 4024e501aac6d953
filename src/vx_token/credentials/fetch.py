"""Fetches a token in a short-lived child process, so that no response from Google can harm this process."""

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
from vx_token.errors import Failure, TemporaryError, VxTokenError, error_of, shortage

DEADLINE = 30.0
"""Maximum duration (seconds) of a refresh."""

SLICE = 0.1
"""Interval (seconds) of the checks for cancellation while the child runs."""

METADATA_HOSTS = ("169.254.169.254", "metadata.google.internal")


def fetch_token(
    profile: Profile,
    environ: Mapping[str, str],
    deadline: float = DEADLINE,
    cancelled: Callable[[], bool] = lambda: False,
) -> Token:
    """Fetch a new token for `profile`; the child reads the credential file again.

    Args:
        profile: the profile.
        environ: the environment: credentials, proxies and Google's variables.
        deadline: maximum lifetime of the child, seconds.
        cancelled: checked every SLICE seconds; if true, the child is killed.

    Raises:
        ConfigError, LoginNeededError, TemporaryError: the fetch failed; no error contains a secret.
    """
    settings = asdict(profile) | {"deadline": deadline}
    try:
        child = subprocess.Popen(
            # -P: do not import modules from the current folder.
            [sys.executable, "-P", "-m", "vx_token.credentials.google_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libraries may log tokens
            env=_environment(environ),
            # A process group, so that the programs of an `executable` source are killed with the child.
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
        raise TemporaryError(message, "vx-token retries automatically") from None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.kill()
        with contextlib.suppress(OSError):
            child.communicate()
    return _decode(output)


def profile_of(settings: Mapping[str, Any]) -> Profile:
    """Return the profile whose JSON form is `settings`, with tuples in place of JSON's lists."""
    return Profile(**{key: _frozen(value) for key, value in settings.items()})


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _ask(child: subprocess.Popen[bytes], settings: bytes) -> None:
    # Not `communicate`: if its first timeout came before the write, it would never write. A pipe holds 64 KiB.
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
            if child.returncode == -signal.SIGALRM:  # the child's own alarm was first
                raise _late(output, deadline)
            return output
        if cancelled():
            raise TemporaryError("the refresh was interrupted")
        if time.monotonic() >= end:
            raise _late(so_far, deadline)


def _late(output: bytes, deadline: float) -> VxTokenError:
    """Return the error for a timeout: the one in the child's last line, else that Google did not respond."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return error_of(Failure(**json.loads(_last_line(output))["late"]), 0.0)
    hint = "check the network and the proxy settings; vx-token retries automatically"
    return TemporaryError(f"no answer from Google within {deadline:.0f} s", hint)


def _last_line(output: bytes) -> bytes:
    return output.strip().rpartition(b"\n")[2]


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    extra = {
        # A token bound to the child's connection would be unusable in other processes.
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
        error = error_of(Failure(**answer["error"]), 0.0)  # the worker's retry_at counts from 0
    except (ValueError, TypeError, KeyError):
        # from None: the cause would quote the worker's output.
        hint = "vx-token retries automatically; `vx-token doctor` looks closer"
        raise TemporaryError("the refresh ended without an answer (out of memory, or killed)", hint) from None
    raise error
