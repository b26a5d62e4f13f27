"""Keys: a small certificate authority for one deployment, and a folder for each of its machines.

    keys/authority/ca.pem, key.pem       to add robots later; keep it where no robot is
    keys/cloud/ca.pem, cert.pem, key.pem
    keys/robot/ca.pem, cert.pem, key.pem
    keys/cloud/revoked.pem               robots whose trust was taken away, if there are any
    keys/signer/key.pem, public.pem      signs bundles, see `vlacut.security.signing`

Keys are ECDSA on P-256. What a certificate is for is its extended key usage, see
`vlacut.runtime.wire.security`. The authority lasts for ten years at least, so that a machine's keys
can be made anew before theirs end. To take the cloud's trust away, make all keys anew: robots ask
for no list of what is revoked.
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
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vlacut.bundle.private import beside
from vlacut.bundle.staging import write_file
from vlacut.errors import InputError
from vlacut.runtime.wire.security import CA, CERTIFICATE, KEY, REVOKED

SIGNER = "signer"
_AUTHORITY, _CLOUD = "authority", "cloud"
_CLOCKS_APART = timedelta(hours=1)
_MOST_NAME = 64  # of a common name: RFC 5280, appendix A.1
_MOST_DAYS = 36500
_AUTHORITY_DAYS = 3650


def make_keys(folder: Path, robots: Sequence[str], days: int) -> list[Path]:
    """Make the authority and the cloud's keys, unless they are there, and those of robots.

    Args:
        folder: of the deployment.
        robots: names of robots, each a folder.
        days: for which certificates are valid from today, as long as the authority's is.

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
        made.append(_make_authority(folder, max(days, _AUTHORITY_DAYS)))
    if not (folder / _CLOUD).exists():
        made.append(_make_machine(folder, _CLOUD, folder / _CLOUD, days))
    made += [_make_machine(folder, robot, folder / robot, days) for robot in dict.fromkeys(robots)]
    return made


def renew_keys(folder: Path, machines: Sequence[str], days: int) -> list[Path]:
    """Make other keys for machines that have some, in their place; the old ones stay valid.

    Args:
        folder: of the deployment.
        machines: `cloud`, or names of robots.
        days: for which the new certificates are valid from today.

    Returns the folders made. Raises InputError if a machine has none, or nothing can be written.
    """
    for machine in machines:
        _certificate_of(folder, machine)
    made = []
    for machine in dict.fromkeys(machines):
        home = folder / machine
        new = _make_machine(folder, machine, beside(home), days)
        kept, old = home / REVOKED, beside(home)
        try:
            if kept.exists():
                shutil.copy2(kept, new / REVOKED)
            home.rename(old)
            new.rename(home)
        except OSError as error:
            raise InputError(f"{home}: cannot be replaced: {error.strerror}") from error
        shutil.rmtree(old, ignore_errors=True)
        made.append(home)
    return made


def revoke_keys(folder: Path, robots: Sequence[str]) -> Path:
    """Take robots' trust away: the list that the cloud has to have, with all that were before.

    Raises InputError if a robot has no keys here, or the list cannot be read or written.
    """
    authority, key = _load_authority(folder / _AUTHORITY)
    if _CLOUD in robots:
        raise InputError(
            "robots ask for no list: to take the cloud's trust away, make all keys anew"
        )
    serials = [_certificate_of(folder, robot).serial_number for robot in robots]
    there, known = folder / _AUTHORITY / REVOKED, []
    now = datetime.now(timezone.utc)
    try:
        if there.exists():
            known = list(x509.load_pem_x509_crl(there.read_bytes()))
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(authority.subject)
            .last_update(now - _CLOCKS_APART)
            .next_update(_ends(authority))
        )
        for serial in sorted({*serials, *(one.serial_number for one in known)}):
            one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
            builder = builder.add_revoked_certificate(one.build())
        data = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
        for home in (folder / _AUTHORITY, folder / _CLOUD):
            write_file(home / REVOKED, data)
    except (OSError, ValueError) as error:
        raise InputError(f"{there}: cannot be read or written: {error}") from error
    return folder / _CLOUD / REVOKED


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


def _make_machine(folder: Path, machine: str, home: Path, days: int) -> Path:
    authority, authority_key = _load_authority(folder / _AUTHORITY)
    cloud = machine == _CLOUD
    use = ExtendedKeyUsageOID.SERVER_AUTH if cloud else ExtendedKeyUsageOID.CLIENT_AUTH
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = (
        _certificate(_name(machine), authority.subject, key.public_key(), days, _ends(authority))
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
    return write_secrets(home, files)


def _certificate_of(folder: Path, machine: str) -> x509.Certificate:
    """A machine's; InputError if it has none."""
    inside = Path(machine).name == machine and machine not in ("", "..", _AUTHORITY, SIGNER)
    try:
        if not inside:
            raise ValueError("a name is one folder's, of a machine")
        return x509.load_pem_x509_certificate((folder / machine / CERTIFICATE).read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / machine}: no keys can be read there: {error}") from error


def _ends(certificate: x509.Certificate) -> datetime:
    return certificate.not_valid_after_utc


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
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    days: int,
    at_most: datetime | None = None,
) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    end = now + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_APART)
        .not_valid_after(end if at_most is None else min(end, at_most))
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
