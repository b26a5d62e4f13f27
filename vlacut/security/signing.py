"""Signatures of bundles: who compiled this, for machines that run only what they trust.

A signature is Ed25519 (RFC 8032) over `vlacut bundle`, a zero byte and the bundle's digest, which
is of its manifest and so of every file. It stands as hexadecimal in `manifest.json.sig`, beside the
files that the digest covers: signing changes no other byte, and compiling anew drops it.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from vlacut.bundle.layout import SIGNATURE
from vlacut.bundle.opened import Bundle
from vlacut.bundle.staging import write_file
from vlacut.errors import BundleError, InputError
from vlacut.runtime.wire.security import KEY
from vlacut.security.keys import SIGNER, private_pem, write_secrets

PUBLIC = "public.pem"
_CONTEXT = b"vlacut bundle\0"
_MAX_SIGNATURE_BYTES = 256


def make_signer(folder: Path) -> Path:
    """Make a key pair that signs bundles, in `folder/signer`; InputError if there is one."""
    home = folder / SIGNER
    if home.exists():
        raise InputError(f"{home} is there already; remove it first to sign with another key")
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return write_secrets(home, {KEY: private_pem(key), PUBLIC: public})


def sign_bundle(bundle: Bundle, key: Path) -> Path:
    """Sign a bundle whose files were checked; the signature's path.

    Raises InputError if it is no key, or the signature cannot be written.
    """
    try:
        signer = load_pem_private_key(key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{key}: cannot be read as a private key: {error}") from error
    if not isinstance(signer, Ed25519PrivateKey):
        raise InputError(f"{key}: is no key of vlacut keys --signer")
    path = bundle.root / SIGNATURE
    try:
        write_file(path, signer.sign(_CONTEXT + bundle.digest).hex() + "\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def check_signature(bundle: Bundle, trusted: Path) -> None:
    """Raises BundleError if the bundle is not signed by this public key, InputError if it is none.

    The bundle's files must have been checked: the signature is of its digest alone.
    """
    try:
        key = load_pem_public_key(trusted.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{trusted}: cannot be read as a public key: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{trusted}: is no {PUBLIC} of vlacut keys --signer")
    path = bundle.root / SIGNATURE
    if not path.is_file():
        raise BundleError(
            f"{bundle.root}: is not signed; sign it with vlacut sign, where the key is"
        )
    try:
        with path.open("rb") as file:
            signature = bytes.fromhex(file.read(_MAX_SIGNATURE_BYTES).decode("ascii"))
        key.verify(signature, _CONTEXT + bundle.digest)
    except (ValueError, InvalidSignature) as error:
        raise BundleError(
            f"{bundle.root}: its signature is not of {trusted} over this bundle; it was signed by "
            f"another key, or altered since: compile and sign it again"
        ) from error
