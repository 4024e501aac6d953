"""The environment variables that a daemon depends on, and their checksums for doctor."""

import os
import zlib
from collections.abc import Mapping
from pathlib import Path

PATH_VARIABLES = (
    "GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG", "VX_TOKEN_CONFIG", "VX_TOKEN_RUNTIME_DIR",
    "XDG_CONFIG_HOME", "XDG_STATE_HOME",
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "GOOGLE_API_CERTIFICATE_CONFIG",
)  # fmt: skip
"""Variables that hold a path; made absolute, because the service has another working folder."""

VALUE_VARIABLES = (
    "GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION", "GOOGLE_CLOUD_QUOTA_PROJECT", "GOOGLE_CLOUD_UNIVERSE_DOMAIN",
    "CLOUDSDK_CORE_ACCOUNT", "CLOUDSDK_ACTIVE_CONFIG_NAME", "CLOUDSDK_CORE_UNIVERSE_DOMAIN",
    "GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT", "NO_GCE_CHECK",
    "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "GOOGLE_API_USE_CLIENT_CERTIFICATE",
    "CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
)  # fmt: skip
"""Variables that are copied as they are."""

SHELL_VARIABLES = (
    "VX_TOKEN_HOOK", "VX_TOKEN_STATUS", "VX_TOKEN_EXPIRES_AT",
    "VX_TOKEN_PROFILE",  # set by `vx-token-use`; a service serves all profiles, and a removed one would stop it
    "VX_TOKEN_EVENT", "VX_TOKEN_NOTICE", "VX_TOKEN_TOKEN_FILE", "VX_TOKEN_HEADER_FILE", "VX_TOKEN_ENV_FILE",
)  # fmt: skip
"""Variables that describe one shell or one run of a user command; never copied into a service."""


def checksums(environ: Mapping[str, str], cwd: Path) -> dict[str, str]:
    """Return a checksum of each variable: doctor compares the daemon's with the shell's, and values may be secret."""
    variables = relevant(environ, cwd)
    return {name: f"{zlib.crc32(value.encode(errors='surrogateescape')):08x}" for name, value in variables.items()}


def relevant(environ: Mapping[str, str], cwd: Path) -> dict[str, str]:
    """Return the variables that a daemon depends on, with absolute paths."""
    excluded = (*PATH_VARIABLES, *SHELL_VARIABLES)
    settings = sorted(name for name in environ if name.startswith("VX_TOKEN_") and name not in excluded)
    names = (*PATH_VARIABLES, *VALUE_VARIABLES, *settings)
    variables = {name: value for name in names if (value := environ.get(name, ""))}
    return {
        name: os.path.normpath(cwd / value) if name in PATH_VARIABLES else value for name, value in variables.items()
    }
