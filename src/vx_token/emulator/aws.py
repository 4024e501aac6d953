"""An emulated AWS account: its roles, and the check of the signed requests that prove a role's identity.

Sources: AWS, "Signature Version 4 for API requests"; Google, "Workload Identity Federation with AWS",
for the form in which the token exchange takes the signed request.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

REGION = "eu-central-1"
SESSION = "/latest/api/token"
ZONE = "/latest/meta-data/placement/availability-zone"
SECURITY = "/latest/meta-data/iam/security-credentials"
CALLER = "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15"

_ALGORITHM = "AWS4-HMAC-SHA256"
_SKEW = 900  # seconds a signature is good for


@dataclass(frozen=True, slots=True)
class Role:
    """The role of a machine at AWS, with the keys its metadata server hands out."""

    name: str
    key_id: str = field(default_factory=lambda: "ASIA" + secrets.token_hex(8).upper())
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(30), repr=False)
    session: str = field(default_factory=lambda: secrets.token_urlsafe(60), repr=False)


def signer(subject_token: str, roles: Mapping[str, Role], audience: str, now: float) -> Role | None:
    """The role, of those by key id, that signed this GetCallerIdentity request for this audience, or None."""
    try:
        ask = json.loads(unquote(subject_token))
        headers = {str(each["key"]).lower(): str(each["value"]) for each in ask["headers"]}
        algorithm, _, rest = headers["authorization"].partition(" ")
        said = dict(part.strip().split("=", 1) for part in rest.split(","))
        key_id, scope = said["Credential"].split("/", 1)
        role, signed = roles[key_id], said["SignedHeaders"].split(";")
        text = _string_to_sign(ask["method"], ask["url"], {name: headers[name] for name in signed}, scope)
        signed_at = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    good = (
        algorithm == _ALGORITHM
        and {"host", "x-amz-date", "x-amz-security-token"} <= set(signed)
        and headers["host"] == urlsplit(CALLER.format(region=scope.split("/")[1])).netloc == urlsplit(ask["url"]).netloc
        and headers["x-amz-security-token"] == role.session
        and headers.get("x-goog-cloud-target-resource") == audience
        and abs(now - signed_at) < _SKEW
        and hmac.compare_digest(_signature(role.secret, scope, text), said["Signature"])
    )
    return role if good else None


def _string_to_sign(method: str, url: str, headers: Mapping[str, str], scope: str) -> str:
    parts = urlsplit(url)
    query = urlencode(sorted(parse_qsl(parts.query, keep_blank_values=True)), quote_via=quote, safe="-_.~")
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    empty = hashlib.sha256(b"").hexdigest()
    request = "\n".join([method, parts.path or "/", query, lines, ";".join(sorted(headers)), empty])
    return "\n".join([_ALGORITHM, headers["x-amz-date"], scope, hashlib.sha256(request.encode()).hexdigest()])


def _signature(secret: str, scope: str, text: str) -> str:
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
