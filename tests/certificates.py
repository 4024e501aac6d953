"""A workload's certificate, and the TLS of a Google that demands it."""

import json
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class WorkloadCertificate:
    """The files of a workload in `folder`, by the form of gcloud's certificate_config.json.

    Attributes:
        leaf, key: the certificate and its key.
        trusted: the authority that issued it and Google's own certificate.
        config: the file that names leaf and key.
        server: serves https to those who show a certificate of the authority.
    """

    leaf: Path
    key: Path
    trusted: Path
    config: Path
    server: ssl.SSLContext

    def client(self) -> ssl.SSLContext:
        """TLS of a client that shows the certificate."""
        context = ssl.create_default_context(cafile=self.trusted)
        context.load_cert_chain(self.leaf, self.key)
        return context


def issued(folder: Path, host: str = "127.0.0.1") -> WorkloadCertificate:
    """Issue a certificate for the workload and one for Google at `host`, and write the workload's files."""
    authority = trustme.CA()
    leaf, key, trusted = (folder / name for name in ("leaf.pem", "key.pem", "ca.pem"))
    shown = authority.issue_cert("workload.example.com")
    shown.cert_chain_pems[0].write_to_path(leaf)
    shown.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(trusted)
    config = folder / "certificate_config.json"
    place = {"cert_path": str(leaf), "key_path": str(key)}
    config.write_text(json.dumps({"version": 1, "cert_configs": {"workload": place}}))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.verify_mode = ssl.CERT_REQUIRED
    authority.issue_cert(host).configure_cert(server)
    authority.configure_trust(server)
    return WorkloadCertificate(leaf, key, trusted, config, server)
