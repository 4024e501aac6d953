"""Every kind of credential file that the emulator can write, with the settings that a profile needs for it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vx_token.emulator import Emulator

TARGET = "robot@demo.iam.gserviceaccount.com"
IAM = "CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS"


def by_program(google: Emulator, path: Path) -> str:
    """Write the file of a workload whose subject token a program prints."""
    subject = path.with_suffix(".subject")
    name = google.external_account(path, subject)
    program = path.with_suffix(".sh")
    answer = {
        "version": 1,
        "success": True,
        "token_type": "urn:ietf:params:oauth:token-type:jwt",
        "id_token": subject.read_text(),
    }
    program.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    program.chmod(0o700)
    text = path.read_text().replace(f'"file": "{subject}"', f'"executable": {{"command": "{program}"}}')
    path.write_text(text)
    return name


def impersonated(google: Emulator, path: Path) -> str:
    google.impersonated(path, TARGET)
    return TARGET


def impersonating(google: Emulator, path: Path) -> str:
    google.authorized_user(path)
    google.allow(TARGET)
    return TARGET


Settings = Mapping[str, Any]
KINDS: dict[str, tuple[Callable[[Emulator, Path], str], Settings]] = {
    "key": (lambda google, path: google.service_account(path), {}),
    "user": (lambda google, path: google.authorized_user(path), {}),
    "impersonated-file": (impersonated, {}),
    "impersonating": (impersonating, {"impersonate": TARGET}),
    "half-day": (impersonating, {"impersonate": TARGET, "lifetime": "2h"}),
    "file": (lambda google, path: google.external_account(path, path.with_suffix(".subject")), {}),
    "url": (lambda google, path: google.external_account_by_url(path), {}),
    "program": (by_program, {}),
    "aws": (lambda google, path: google.external_account_at_aws(path), {}),
    "workforce": (lambda google, path: google.external_account_authorized_user(path), {}),
    "gdch": (lambda google, path: google.gdch(path), {}),
}
"""The kinds of credential file; each function writes one and returns the identity of its tokens."""
