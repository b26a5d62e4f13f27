"""Signed bundles: who may have compiled what a machine runs."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import load_pem_private_key

import vlacut
from vlacut.bundle.reading import open_bundle
from vlacut.cli.commands import vlacut as vlacut_command
from vlacut.errors import BundleError, InputError
from vlacut.security.keys import make_keys
from vlacut.security.signing import PUBLIC, SIGNATURE, make_signer, sign_bundle


@pytest.fixture
def bundle(split_bundle: Path, tmp_path: Path) -> Path:
    """A copy to be signed."""
    return Path(shutil.copytree(split_bundle, tmp_path / "policy.vlacut"))


def test_a_signed_bundle_is_served_and_its_digest_is_what_it_was(
    bundle: Path, tmp_path: Path
) -> None:
    signer = make_signer(tmp_path)
    before = open_bundle(bundle).digest
    sign_bundle(open_bundle(bundle), signer / "key.pem")
    assert open_bundle(bundle).digest == before
    vlacut.serve(bundle, trusted=signer / PUBLIC).close()


def test_the_vector_of_the_docstring(bundle: Path, tmp_path: Path) -> None:
    """Ed25519 signs the same bytes the same way, whoever does it."""
    signer, opened = make_signer(tmp_path), open_bundle(bundle)
    made = bytes.fromhex(sign_bundle(opened, signer / "key.pem").read_text())
    key = load_pem_private_key((signer / "key.pem").read_bytes(), None)
    assert made == key.sign(b"vlacut bundle\0" + opened.digest)  # type: ignore[union-attr,call-arg]


def test_refusals(bundle: Path, tmp_path: Path) -> None:
    signer, other = make_signer(tmp_path / "a"), make_signer(tmp_path / "b")
    with pytest.raises(BundleError, match="is not signed; sign it with vlacut sign"):
        vlacut.connect(bundle, "127.0.0.1:9", trusted=signer / PUBLIC)
    signature = sign_bundle(open_bundle(bundle), signer / "key.pem")
    with pytest.raises(BundleError, match=r"is not of .*public\.pem over this bundle"):
        vlacut.serve(bundle, trusted=other / PUBLIC)
    text = signature.read_text()
    for forged in ("", "zz", "\xff", text[:-3], ("0" if text[0] != "0" else "1") + text[1:]):
        signature.write_text(forged)
        with pytest.raises(BundleError, match="is not of"):
            vlacut.serve(bundle, trusted=signer / PUBLIC)
    with pytest.raises(InputError, match="cannot be read as a public key"):
        vlacut.serve(bundle, trusted=tmp_path / "none.pem")
    with pytest.raises(InputError, match="cannot be read as a public key"):
        vlacut.serve(bundle, trusted=signer / "key.pem")
    with pytest.raises(InputError, match="is there already"):
        make_signer(tmp_path / "a")


def test_the_signature_of_another_bundle_is_none(bundle: Path, tmp_path: Path) -> None:
    signer = make_signer(tmp_path)
    signature = sign_bundle(open_bundle(bundle), signer / "key.pem").read_bytes()
    manifest = (bundle / "manifest.json").read_bytes().replace(b'"program": "', b'"program": "x')
    (bundle / "manifest.json").write_bytes(manifest)
    with pytest.raises(BundleError, match="is altered"):
        vlacut.serve(bundle, trusted=signer / PUBLIC)
    digest = hashlib.sha256(manifest).hexdigest()  # as somebody would who repairs the digest
    (bundle / "manifest.json.sha256").write_text(digest + "\n")
    (bundle / SIGNATURE).write_bytes(signature)
    with pytest.raises(BundleError, match="altered since"):
        vlacut.serve(bundle, trusted=signer / PUBLIC)


def test_a_machine_s_key_signs_no_bundle(bundle: Path, tmp_path: Path) -> None:
    make_keys(tmp_path, ("robot",), 1)
    with pytest.raises(InputError, match="no key of vlacut keys --signer"):
        sign_bundle(open_bundle(bundle), tmp_path / "robot" / "key.pem")
    with pytest.raises(InputError, match="a name is one folder's"):
        make_keys(tmp_path, ("signer",), 1)


def test_the_command_line(bundle: Path, tmp_path: Path) -> None:
    def call(*words: object) -> dict[str, object]:
        done = CliRunner().invoke(vlacut_command, [*map(str, words), "--json"])
        if done.exception:
            raise done.exception
        found: dict[str, object] = json.loads(done.stdout)
        return found

    signer = tmp_path / "signer"
    assert call("keys", tmp_path, "--signer") == {"folders": [str(signer)]}
    said = call("sign", bundle, "--key", signer / "key.pem")
    digest = open_bundle(bundle).digest.hex()
    assert said == {"signature": str(bundle / SIGNATURE), "digest": digest}
    with pytest.raises(InputError, match="ask for one"):
        call("keys", tmp_path, "--signer", "--robot", "arm")
    (bundle / SIGNATURE).unlink()
    for words in (("serve",), ("run", "--cloud", "127.0.0.1:9")):
        with pytest.raises(BundleError, match="is not signed"):
            call(words[0], bundle, *words[1:], "--trusted", signer / PUBLIC)
