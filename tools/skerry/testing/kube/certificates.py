"""Keys and certificates of a test's cluster, laid out as k3s lays out a server's, so that our modules find theirs."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: Valid for a day, from an hour ago.
LIFE = datetime.timedelta(days=1)
SERVER_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
ADDRESSES = ("127.0.0.1", "10.43.0.1")


def _name(common_name: str, groups: Sequence[str] = ()) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@dataclass
class Pair:
    """Two files in PEM."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority with its files below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.tls = folder / "server" / "tls"
        self.tls.mkdir(parents=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _name("skerry-test-ca")
        built = self._begin(self._subject, self._key).add_extension(x509.BasicConstraints(True, None), critical=True)
        self.certificate = self.tls / "server-ca.crt"
        self.certificate.write_bytes(built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _begin(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + LIFE)
        )

    def issue(self, file_name: str, common_name: str, groups: Sequence[str] = (), server: bool = False) -> Pair:
        """A certificate for a user with ``groups``, or for a server on this machine; overwrites files of that name."""
        pair = Pair(self.tls / f"{file_name}.crt", self.tls / f"{file_name}.key")
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = self._begin(_name(common_name, groups), key)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if server:
            names: list[x509.GeneralName] = [x509.DNSName(name) for name in SERVER_NAMES]
            names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ADDRESSES]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        pair.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        pair.key.touch(mode=0o600)
        pair.key.write_bytes(_private(key))
        return pair

    def signing_key(self, file_name: str) -> Pair:
        """A key pair for service account tokens; ``certificate`` is the bare public key."""
        key = ec.generate_private_key(ec.SECP256R1())
        pair = Pair(self.tls / f"{file_name}.pub", self.tls / f"{file_name}.key")
        pair.certificate.write_bytes(key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ))
        pair.key.touch(mode=0o600)
        pair.key.write_bytes(_private(key))
        return pair

    def kubeconfig(self, path: Path, pair: Pair, port: int) -> Path:
        """A kubeconfig that needs no other file; JSON, which is YAML too."""

        def data(source: Path) -> str:
            return base64.b64encode(source.read_bytes()).decode()

        cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": data(self.certificate)}
        user = {"client-certificate-data": data(pair.certificate), "client-key-data": data(pair.key)}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "default", "cluster": cluster}],
            "users": [{"name": "default", "user": user}],
            "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
            "current-context": "default",
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(document, indent=1), encoding="utf-8")
        return path
