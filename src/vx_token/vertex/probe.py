"""The one-token probe: a tiny completion with a profile's model, which proves that tools will be answered."""

import json
from collections.abc import Mapping

from vx_token.config import vertex
from vx_token.config.model import Profile
from vx_token.credentials.google_errors import Login
from vx_token.credentials.token import Token
from vx_token.outputs.exports import header_lines
from vx_token.vertex import request
from vx_token.vertex.diagnosis import Asked, Diagnosis, diagnose

MODEL = "google/gemini-2.5-flash"
"""The model for a profile that names none."""

MAX_TOKENS = 16
"""Enough for every model: some refuse a smaller limit."""


def probed_model(profile: Profile) -> str:
    """Return the model to ask; "" at a deployed endpoint without a configured model, because it serves only one."""
    return profile.model or ("" if vertex.is_own_endpoint(profile.url) else MODEL)


def probe(environ: Mapping[str, str], profile: Profile, token: Token, login: Login | None = None) -> Diagnosis:
    """Ask the profile's model for a few words and return what the answer means.

    Args:
        environ: the environment, for proxies and certificates.
        profile: the profile.
        token: its token.
        login: its login, for exact commands in the hint.
    """
    model = probed_model(profile)
    body = {"model": model, "max_tokens": MAX_TOKENS, "messages": [{"role": "user", "content": "Say hello."}]}
    lines = [line.partition(": ") for line in header_lines(token).splitlines()]
    headers = {**profile.headers, **{name: value for name, _, value in lines}, "Content-Type": "application/json"}
    answer = request.post(environ, f"{profile.url}/chat/completions", headers, json.dumps(body).encode())
    return diagnose(answer, Asked(profile, model, token, login or Login(token.kind, account=token.account)))
