"""The environment variables that a daemon depends on."""

import os
import zlib
from collections.abc import Mapping
from pathlib import Path

PATHS = (
    "GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG", "VX_TOKEN_CONFIG", "VX_TOKEN_RUNTIME_DIR",
    "XDG_CONFIG_HOME", "XDG_STATE_HOME",
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "GOOGLE_API_CERTIFICATE_CONFIG",
)  # fmt: skip
"""Variables that name a place: relative ones would mean another in the service."""

WORDS = (
    "GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION", "GOOGLE_CLOUD_QUOTA_PROJECT", "GOOGLE_CLOUD_UNIVERSE_DOMAIN",
    "GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT", "NO_GCE_CHECK",
    "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "GOOGLE_API_USE_CLIENT_CERTIFICATE",
    "CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
)  # fmt: skip

OF_THE_SHELL = (
    "VX_TOKEN_HOOK", "VX_TOKEN_STATUS", "VX_TOKEN_EXPIRES_AT",
    "VX_TOKEN_PROFILE",  # by `vx-token-use`; a service keeps every profile, and one that is gone would end it
    "VX_TOKEN_EVENT", "VX_TOKEN_NOTICE", "VX_TOKEN_TOKEN_FILE", "VX_TOKEN_HEADER_FILE", "VX_TOKEN_ENV_FILE",
)  # fmt: skip
"""Ours, but facts of one shell, or of one run of `on_refresh`, and so of one moment."""


def digests(environ: Mapping[str, str], cwd: Path) -> dict[str, str]:
    """A checksum of each of these variables: doctor compares a daemon's with a shell's, and values may be secret."""
    found = chosen(environ, cwd)
    return {name: f"{zlib.crc32(value.encode(errors='surrogateescape')):08x}" for name, value in found.items()}


def chosen(environ: Mapping[str, str], cwd: Path) -> dict[str, str]:
    """The variables of `environ` that a daemon depends on, with absolute paths."""
    ours = sorted(name for name in environ if name.startswith("VX_TOKEN_") and name not in (*PATHS, *OF_THE_SHELL))
    found = {name: value for name in (*PATHS, *WORDS, *ours) if (value := environ.get(name, ""))}
    return {name: os.path.normpath(cwd / value) if name in PATHS else value for name, value in found.items()}
