"""The emulated Google's identities, their credentials, and the tokens issued to them."""

import base64
import functools
import itertools
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from vx_token.emulator.aws import Role, signer
from vx_token.emulator.error_bodies import oauth_error, reauth_needed

Json = dict[str, Any]
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

HOUR = 3600.0
GRACE = 0.05  # seconds a token is taken past its end, so that a new one of 5 s may say 5 and not 4
MARK = "vx-token emulator"
AUDIENCE = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/provider"
GOOGLE_TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address; google-auth signs it as `aud` whatever the token_uri


@dataclass(frozen=True, slots=True)
class Issued:
    """A token that was handed out.

    Attributes:
        value: the bearer token.
        identity: the token's identity.
        issued_at: epoch seconds.
        expires_at: its end, epoch seconds.
        route: `token`, `sts`, `iam` or `metadata`.
    """

    value: str = field(repr=False)
    identity: str
    issued_at: float
    expires_at: float
    route: str


class Mint:
    """The tokens that were handed out, and which of them still count."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._issued: dict[str, Issued] = {}
        self._revoked: set[str] = set()

    def issue(self, identity: str, route: str, lifetime: float, length: int = 180) -> Issued:
        """A new token of `length` characters that lives `lifetime` seconds."""
        value = ("ya29." + secrets.token_urlsafe(length))[:length]
        now = self._now()
        self._issued[value] = Issued(value, identity, now, now + lifetime, route)
        return self._issued[value]

    def last(self, identity: str, route: str) -> Issued | None:
        """The newest token of an identity from a route, dead or alive."""
        found = (issued for issued in reversed(self.all()) if (issued.identity, issued.route) == (identity, route))
        return next(found, None)

    def all(self) -> list[Issued]:
        """Every token, oldest first."""
        return list(self._issued.values())

    def find(self, value: str) -> Issued | None:
        """The token of that value, dead or alive."""
        return self._issued.get(value)

    def revoke(self, value: str) -> None:
        """End a token before its time."""
        self._revoked.add(value)

    def alive(self, issued: Issued) -> bool:
        """Whether Google would take it now."""
        return self._now() < issued.expires_at + GRACE and issued.value not in self._revoked


class Directory:
    """The identities, their credentials, and the revoked ones."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._accounts: dict[str, PublicKey] = {}
        self._users: dict[str, str] = {}
        self._workloads: dict[str, str] = {}
        self.roles: dict[str, Role] = {}
        self._refused: dict[str, bool] = {}
        self.targets: set[str] = set()

    def add_account(self, token_uri: str) -> Json:
        """A new service account's key file."""
        address = f"account-{next(self._numbers)}@demo.iam.gserviceaccount.com"
        key = _key()
        self._accounts[address] = key.public_key()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "project_id": "demo",
            "private_key_id": "emulated",
            "private_key": pem.decode(),
            "client_email": address,
            "client_id": "1",
            "token_uri": token_uri,
            "universe_domain": "googleapis.com",
        }

    def add_user(self, token_uri: str) -> Json:
        """A new user's login."""
        token = "1//" + secrets.token_urlsafe(24)
        self._users[token] = f"user-{next(self._numbers)}@example.com"
        return {
            "type": "authorized_user",
            "client_id": "emulated.apps.googleusercontent.com",
            "client_secret": "emulated",
            "refresh_token": token,
            "token_uri": token_uri,
            "universe_domain": "googleapis.com",
        }

    def owner(self, document: Json) -> str:
        """Return the identity of such a credential file."""
        if document.get("type") == "gdch_service_account":
            return f"system:serviceaccount:{document['project']}:{document['name']}"
        return str(document.get("client_email") or self._users[document["refresh_token"]])

    def add_workload(self) -> str:
        """A new workload's proof for the token exchange."""
        token = f"{MARK} {secrets.token_urlsafe(24)}"
        self._workloads[token] = f"workload-{next(self._numbers)}"
        return token

    def replace_workload(self, proof: str) -> str:
        """Return another proof of the same workload; the old one is not accepted any more."""
        token = f"{MARK} {secrets.token_urlsafe(24)}"
        self._workloads[token] = self._workloads.pop(proof)
        return token

    def add_certificate(self, pem: bytes) -> str:
        """Add a workload that proves its identity by this certificate: a chain of one."""
        der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
        identity = f"workload-{next(self._numbers)}"
        self._workloads[json.dumps([base64.b64encode(der).decode()])] = identity
        return identity

    def add_role(self) -> str:
        """Give the emulated AWS machine a new role, which becomes a workload."""
        role = Role(f"role-{next(self._numbers)}")
        self.roles[role.key_id] = role
        return role.name

    def add_service_identity(self, token_uri: str) -> Json:
        """A new service identity's key file, as Google Distributed Cloud writes it."""
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        document = {
            "type": "gdch_service_account",
            "format_version": "1",
            "project": "demo",
            "private_key_id": "emulated",
            "private_key": pem.decode(),
            "name": f"identity-{next(self._numbers)}",
            "token_uri": token_uri,
        }
        self._accounts[self.owner(document)] = key.public_key()
        return document

    def refuse(self, identity: str, *, reauth: bool) -> None:
        """Take an identity's right to new tokens; with `reauth` until its user logs in again."""
        self._refused[identity] = reauth

    def accept(self, identity: str) -> None:
        """Give it back."""
        self._refused.pop(identity, None)

    def user(self, refresh_token: str) -> str:
        """Whose refresh token that is."""
        identity = self._users.get(refresh_token, "")
        if self._refused.get(identity):
            raise reauth_needed()
        if not identity or identity in self._refused:
            raise oauth_error("invalid_grant", "Token has been expired or revoked.")
        return identity

    def proven(self, proof: str) -> str:
        """Return the identity that this proof belongs to, if it is known."""
        return self._workloads.get(proof, "")

    def workload(self, subject_token: str, now: float) -> str:
        """Whose subject token that is: a proof handed out, a certificate shown, or a request signed at AWS."""
        role = signer(subject_token, self.roles, AUDIENCE, now)
        identity = role.name if role else self.proven(subject_token)
        if not identity or identity in self._refused:
            raise oauth_error("invalid_grant", "The given credential is rejected by the attribute condition.")
        return identity

    def service_identity(self, assertion: str, audience: str, now: float) -> str:
        """Which service identity of Google Distributed Cloud signed this assertion."""
        claims, signed, signature = _parse_assertion(assertion, "ES256")
        name = str(claims.get("iss", ""))
        if name in self._refused or not _verified(self._accounts.get(name), signed, signature):
            raise oauth_error("invalid_grant", "Invalid JWT Signature.")
        _check_claims(claims | {"scope": "of the audience"}, frozenset({audience}), now)
        return name

    def account(self, assertion: str, audiences: frozenset[str], now: float) -> str:
        """Which service account signed this assertion, for one of these audiences (RFC 7523)."""
        claims, signed, signature = _parse_assertion(assertion, "RS256")
        address = str(claims.get("iss", ""))
        if address not in self._accounts:
            raise oauth_error("invalid_grant", "Invalid grant: account not found")
        if address in self._refused or not _verified(self._accounts[address], signed, signature):
            raise oauth_error("invalid_grant", "Invalid JWT Signature.")
        _check_claims(claims, audiences, now)
        return address


@functools.cache
def _key() -> rsa.RSAPrivateKey:
    # One key for all accounts of a process: making one takes a tenth of a second and proves nothing.
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _parse_assertion(assertion: str, algorithm: str) -> tuple[Json, bytes, bytes]:
    try:
        header, body, signature = (_unbase64(part) for part in assertion.split("."))
        head, claims = json.loads(header), json.loads(body)
        if head["alg"] == algorithm and isinstance(claims, dict):
            return claims, assertion.rpartition(".")[0].encode(), signature
    except (ValueError, KeyError, TypeError):
        pass
    raise oauth_error("invalid_grant", "Invalid JWT Signature.")


def _unbase64(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _verified(key: PublicKey | None, signed: bytes, signature: bytes) -> bool:
    try:
        match key:
            case rsa.RSAPublicKey():
                key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
            case ec.EllipticCurvePublicKey():
                half = len(signature) // 2  # RFC 7518 section 3.4: the two numbers one after the other
                numbers = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
                key.verify(encode_dss_signature(*numbers), signed, ec.ECDSA(hashes.SHA256()))
            case None:
                return False
    except InvalidSignature:
        return False
    return True


def _check_claims(claims: Json, audiences: frozenset[str], now: float) -> None:
    skew = 300  # seconds that Google's clock and the caller's may differ
    issued, ends = float(claims.get("iat", 0)), float(claims.get("exp", 0))
    if not (issued - skew <= now < ends <= issued + HOUR):
        raise oauth_error(
            "invalid_grant",
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
            "Check your iat and exp values in the JWT claim.",
        )
    if claims.get("aud") not in audiences:
        raise oauth_error("invalid_grant", f"Failed audience check. The right audience is {GOOGLE_TOKEN_URL}")
    if not claims.get("scope"):
        raise oauth_error("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
