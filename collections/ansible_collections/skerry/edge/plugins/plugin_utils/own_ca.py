"""A certificate authority of the site's own and servers' certificates signed by it, in a folder of the controller.

``cryptography`` comes with ansible-core. Keys are of curve P-256, which every client of the last ten years knows.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: An authority outlives many certificates.
CA_DAYS = 3650
CLOCK_SKEW = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, both in PEM."""

    certificate: str
    key: str


class DamagedError(Exception):
    """A file of the folder is there and cannot be used."""


def read_pair(folder: Path, name: str) -> Pair | None:
    """``<name>.crt`` and ``<name>.key``, or None when one of them is not there."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    if not certificate.is_file() or not key.is_file():
        return None
    return Pair(certificate.read_text(encoding="utf-8"), key.read_text(encoding="utf-8"))


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def _load(pair: Pair, what: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate.encode())
        key = serialization.load_pem_private_key(pair.key.encode(), password=None)
    except ValueError as error:
        raise DamagedError(f"{what} cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise DamagedError(f"key and certificate of {what} do not belong together")
    return certificate, key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = _now()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=authority, crl_sign=authority, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def make_authority(common_name: str) -> Pair:
    """A new authority; it may sign servers' certificates, no further authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    built = (
        _builder(name, name, key, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
    )
    return Pair(built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode(), _pem(key))


def general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    """Names and addresses as a certificate has them, each once, in order."""
    found: list[x509.GeneralName] = []
    for name in dict.fromkeys(names):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def make_certificate(authority: Pair, names: Sequence[str], days: int) -> Pair:
    """A server's certificate for ``names``, not valid beyond its authority."""
    parent, parent_key = _load(authority, "the authority")
    key = ec.generate_private_key(ec.SECP256R1())
    left = (parent.not_valid_after_utc - _now()).days
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    identifier = parent.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    built = (
        _builder(subject, parent.subject, key, max(1, min(days, left)))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(general_names(names)), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
    )
    text = built.sign(parent_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    return Pair(text, _pem(key))


def expires(certificate: str) -> datetime.datetime:
    """End of a certificate's life. Raises DamagedError."""
    try:
        return x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc
    except ValueError as error:
        raise DamagedError(f"a certificate cannot be read: {error}") from error


def ends_within(certificate: str, days: int) -> bool:
    """Whether a certificate ends within so many days, or has ended. Raises DamagedError."""
    return expires(certificate) - _now() < datetime.timedelta(days=days)


def fits(pair: Pair, authority: Pair, names: Sequence[str], renew_days: int) -> str:
    """Why a server's certificate has to be made anew; '' when it has not."""
    try:
        certificate, _key = _load(pair, "the certificate")
        parent, _parent_key = _load(authority, "the authority")
    except DamagedError as error:
        return str(error)
    try:
        certificate.verify_directly_issued_by(parent)
    except Exception as error:  # the library raises InvalidSignature, ValueError and TypeError alike
        return f"another authority signed it ({type(error).__name__})"
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if set(found) != set(general_names(names)):
        return "its names are others"
    return f"it ends within {renew_days} days" if ends_within(pair.certificate, renew_days) else ""
