"""Credential files of every type, each for a new identity of the emulated Google."""

import contextlib
import json
import os
import secrets
import sqlite3
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from vx_token.emulator import aws
from vx_token.emulator.identity import AUDIENCE, MARK, Directory

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]

JWT = "urn:ietf:params:oauth:token-type:jwt"


class Logins(ABC):
    """Writes credential files; each method returns the new identity's name."""

    directory: Directory

    @property
    @abstractmethod
    def url(self) -> str:
        """The emulator's root."""

    @property
    def token_uri(self) -> str:
        """The token endpoint."""
        return f"{self.url}/token"

    def iam_url(self, target: str) -> str:
        """Where to impersonate `target`; fits `iam_endpoint_override`."""
        return f"{self.url}/v1/projects/-/serviceAccounts/{target}:generateAccessToken"

    def service_account(self, path: Path) -> str:
        """Write a service account's key file."""
        document = self.directory.add_account(self.token_uri)
        _write(path, document)
        return self.directory.owner(document)

    def authorized_user(self, path: Path, quota_project_id: str = "") -> str:
        """Write a user's login, as `gcloud auth application-default login` does."""
        document = self.directory.add_user(self.token_uri)
        _write(path, document | ({"quota_project_id": quota_project_id} if quota_project_id else {}))
        return self.directory.owner(document)

    def impersonated(self, path: Path, target: str = "", source: str = "service_account") -> str:
        """Write a file by which a new identity impersonates `target` (default: a new account), and allow that.

        `source` is the new identity's kind, `service_account` or `authorized_user`; its name is returned.
        """
        add = {"service_account": self.directory.add_account, "authorized_user": self.directory.add_user}[source]
        inner = add(self.token_uri)
        target = target or self.directory.add_account(self.token_uri)["client_email"]
        self.allow(target)
        _write(
            path,
            {
                "type": "impersonated_service_account",
                "service_account_impersonation_url": self.iam_url(target),
                "delegates": [],
                "source_credentials": inner,
            },
        )
        return self.directory.owner(inner)

    def external_account(self, path: Path, subject: Path, target: str = "") -> str:
        """Write a workload's file and the file with its subject token; with `target` it impersonates that account."""
        proof = self.directory.add_workload()
        _write_text(subject, proof)
        self._pool(path, {"file": str(subject)}, target=target)
        return self.directory.proven(proof)

    def replace_subject_token(self, subject: Path) -> None:
        """Replace the subject token in a workload's file, as Kubernetes does; the old one is not accepted any more."""
        _write_text(subject, self.directory.replace_workload(subject.read_text()))

    def external_account_by_url(self, path: Path) -> str:
        """Write the file of a workload whose subject token is had from a URL, as on Azure."""
        proof = self.directory.add_workload()
        asked = {"url": f"{self.url}/subject/{quote(proof)}", "headers": {"Metadata": "True"}}
        form = {"format": {"type": "json", "subject_token_field_name": "access_token"}}
        self._pool(path, asked | form)
        return self.directory.proven(proof)

    def external_account_at_aws(self, path: Path) -> str:
        """Write the file of a workload at AWS; this emulator is its machine's metadata server too."""
        source = {
            "environment_id": "aws1",
            "regional_cred_verification_url": aws.CALLER,
            "region_url": self.url + aws.ZONE,
            "url": self.url + aws.SECURITY,
            "imdsv2_session_token_url": self.url + aws.SESSION,
        }
        self._pool(path, source, "urn:ietf:params:aws:token-type:aws4_request")
        return self.directory.add_role()

    def external_account_by_certificate(self, path: Path, config: Path) -> str:
        """Write the file of a workload that shows the certificate which the file `config` names."""
        place = json.loads(config.read_text())["cert_configs"]["workload"]["cert_path"]
        identity = self.directory.add_certificate(Path(place).read_bytes())
        source = {"certificate": {"certificate_config_location": str(config)}}
        self._pool(path, source, "urn:ietf:params:oauth:token-type:mtls")
        return identity

    def external_account_authorized_user(self, path: Path) -> str:
        """Write the login of a workforce's user, as `gcloud auth application-default login --login-config` does."""
        login = self.directory.add_user(self.token_uri)
        pool = {"type": "external_account_authorized_user", "audience": AUDIENCE, "token_url": self.token_uri}
        _write(path, {key: login[key] for key in ("client_id", "client_secret", "refresh_token")} | pool)
        return self.directory.owner(login)

    def gdch(self, path: Path) -> str:
        """Write the key file of a service identity at Google Distributed Cloud."""
        document = self.directory.add_service_identity(self.token_uri)
        _write(path, document)
        return self.directory.owner(document)

    def gcloud_login(self, folder: Path, account: str = "", kind: str = "authorized_user", **document: Any) -> str:
        """Add a login to gcloud's database in `folder`, as `gcloud auth login` does; return its identity.

        The database and each value have the form that googlecloudsdk/core/credentials/creds.py of gcloud 528 writes.

        Args:
            folder: gcloud's configuration folder.
            account: the key in the database, by default the new identity's name.
            kind: `authorized_user` or `service_account`, ignored when there is a `document`.
            document: the login's keys, instead of a new identity's.
        """
        add = {"service_account": self.directory.add_account, "authorized_user": self.directory.add_user}[kind]
        value = document or add(self.token_uri)
        identity = account if document else self.directory.owner(value)
        text = json.dumps(value | {"made_by": MARK}, sort_keys=True, indent=2, separators=(",", ": "))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "credentials.db"
        path.touch(mode=0o600)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute('CREATE TABLE IF NOT EXISTS "credentials" (account_id TEXT PRIMARY KEY, value BLOB)')
            database.execute('REPLACE INTO "credentials" (account_id, value) VALUES (?,?)', (account or identity, text))
        return identity

    def _pool(self, path: Path, source: Json, proof: str = JWT, target: str = "") -> None:
        document: Json = {
            "type": "external_account",
            "audience": AUDIENCE,
            "subject_token_type": proof,
            "token_url": f"{self.url}/v1/token",
            "credential_source": source,
        }
        if target:
            self.allow(target)
            document["service_account_impersonation_url"] = self.iam_url(target)
        _write(path, document)

    def credentials(self, type: str, path: str | Path, **more: Any) -> str:  # noqa: A002 - as credential files call it
        """Write a file of that type, but never over one that no emulator made; for the outside world.

        Raises:
            ValueError: there is no such type.
            FileExistsError: the path holds something of value.
        """
        writers: dict[str, Callable[..., str]] = {
            "service_account": self.service_account,
            "authorized_user": self.authorized_user,
            "impersonated_service_account": self.impersonated,
            "external_account": self.external_account,
            "external_account_by_url": self.external_account_by_url,
            "external_account_at_aws": self.external_account_at_aws,
            "external_account_authorized_user": self.external_account_authorized_user,
            "gdch_service_account": self.gdch,
        }
        if type not in writers:
            message = f"unknown credential type {type!r}; there are {', '.join(writers)}"
            raise ValueError(message)
        paths = {"path": Path(path)} | ({"subject": Path(more.pop("subject"))} if "subject" in more else {})
        for place in paths.values():
            _spare(place)
        return writers[type](**paths, **more)

    def allow(self, target: str) -> None:
        """Allow every identity to impersonate `target`."""
        self.directory.targets.add(target)


def _write(path: Path, document: Json) -> None:
    _write_text(path, json.dumps(document | {"made_by": MARK}, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    """Replace a file atomically, so that no reader gets a part of it; private, as gcloud writes them."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


def _spare(path: Path) -> None:
    if path.exists() and MARK not in path.read_text(errors="replace"):
        message = f"{path} was not made by an emulator and stays as it is"
        raise FileExistsError(message)
