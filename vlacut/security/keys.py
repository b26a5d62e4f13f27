"""Keys: a small certificate authority for one deployment, and a folder for each of its machines.

    keys/authority/ca.pem, key.pem       to add robots later; keep it where no robot is
    keys/cloud/ca.pem, cert.pem, key.pem
    keys/robot/ca.pem, cert.pem, key.pem
    keys/signer/key.pem, public.pem      signs bundles, see `vlacut.security.signing`

Keys are ECDSA on P-256. What a certificate is for is its extended key usage, see
`vlacut.runtime.wire.security`. To take one machine's trust away, make all keys anew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from vlacut.bundle.private import beside
from vlacut.errors import InputError
from vlacut.runtime.wire.security import CA, CERTIFICATE, KEY

SIGNER = "signer"
_AUTHORITY, _CLOUD = "authority", "cloud"
_CLOCKS_APART = timedelta(hours=1)
_MOST_NAME = 64  # of a common name: RFC 5280, appendix A.1
_MOST_DAYS = 36500


def make_keys(folder: Path, robots: Sequence[str], days: int) -> list[Path]:
    """Make the authority and the cloud's keys, unless they are there, and those of robots.

    Args:
        folder: of the deployment.
        robots: names of robots, each a folder.
        days: for which certificates are valid from today.

    Returns the folders made. Raises InputError if a robot's is there, a name is no folder's or too
    long, or a folder cannot be written.
    """
    for robot in robots:
        if robot in ("", "..", _AUTHORITY, _CLOUD, SIGNER) or Path(robot).name != robot:
            raise InputError(f"robot {robot!r}: a name is one folder's, and not the cloud's")
        if len(robot) > _MOST_NAME or not robot.isprintable():
            raise InputError(f"robot {robot!r}: a name has {_MOST_NAME} characters at most")
        if (folder / robot).exists():
            raise InputError(f"{folder / robot} is there already; name another robot")
    if days > _MOST_DAYS:
        raise InputError(f"{days} days: certificates are valid for {_MOST_DAYS} at most")
    made = []
    if not (folder / _AUTHORITY).exists():
        made.append(_make_authority(folder, days))
    if not (folder / _CLOUD).exists():
        made.append(_make_machine(folder, _CLOUD, ExtendedKeyUsageOID.SERVER_AUTH, days))
    made += [
        _make_machine(folder, robot, ExtendedKeyUsageOID.CLIENT_AUTH, days)
        for robot in dict.fromkeys(robots)
    ]
    return made


def _make_authority(folder: Path, days: int) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"vlacut {x509.random_serial_number():x}"[:40])
    builder = (
        _certificate(name, name, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return write_secrets(folder / _AUTHORITY, {KEY: private_pem(key), CA: certificate})


def _make_machine(folder: Path, machine: str, use: ObjectIdentifier, days: int) -> Path:
    authority, authority_key = _load_authority(folder / _AUTHORITY)
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = (
        _certificate(_name(machine), authority.subject, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=True)
        .add_extension(issuer, critical=False)
    )
    files = {
        KEY: private_pem(key),
        CERTIFICATE: builder.sign(authority_key, hashes.SHA256()).public_bytes(Encoding.PEM),
        CA: authority.public_bytes(Encoding.PEM),
    }
    return write_secrets(folder / machine, files)


def _load_authority(home: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate((home / CA).read_bytes())
        key = load_pem_private_key((home / KEY).read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise InputError(f"{home}: cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(f"{home / KEY} is no key of vlacut keys")
    return certificate, key


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_APART)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def private_pem(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> bytes:
    """A key as a file holds it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write_secrets(home: Path, files: Mapping[str, bytes]) -> Path:
    """Write a folder that others may not read from the moment it exists, whole or not at all.

    Returns it. Raises InputError if it is there already, or cannot be written.
    """
    staging = beside(home)
    try:
        home.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        staging.mkdir(mode=0o700)
        for name, data in files.items():
            descriptor = os.open(staging / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        staging.rename(home)
    except OSError as error:
        raise InputError(f"{home}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return home
