"""The optional signature of a bundle: ed25519 over the very bytes of `bundle.yaml`, which holds every file's digest.

`bundle.sig` is the 64 bytes of the signature and nothing else, so that `openssl pkeyutl -verify -rawin` reads it too.
`python -m training.sign_bundle` makes it. Needs the package `cryptography`, only where a public key is set.
"""

from __future__ import annotations

import base64
import binascii

from ros_ood_perception.errors import PerceptionError

SIGNATURE_FILE = "bundle.sig"
SIGNATURE_BYTES = 64
_KEY_BYTES = 32


class SignatureError(PerceptionError, ValueError):
    """A bundle that the key's owner did not sign, or a key that is none. The message says which, with the remedy."""


def key_bytes(public_key: str) -> bytes:
    """The 32 bytes of a public key, as `python -m training.sign_bundle --new-key` prints it (base64, 44 characters).

    Raises:
        SignatureError: it is none.
    """
    try:
        found = base64.b64decode(public_key.strip(), validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if len(found) != _KEY_BYTES:
        raise SignatureError(
            f"bundle_public_key is {public_key!r:.60}; it must be an ed25519 key of {_KEY_BYTES} bytes in base64, as "
            "python -m training.sign_bundle --new-key prints it"
        )
    return found


def require_signature(signed: bytes, signature: bytes, public_key: str) -> None:
    """Refuse what the owner of the public key did not sign.

    Raises:
        SignatureError: the signature is another, the key is none, or `cryptography` is not installed.
    """
    key = key_bytes(public_key)
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise SignatureError(
            f"bundle_public_key is set, and a signature needs the package cryptography ({error}): `sudo apt install "
            "python3-cryptography` or `pip install cryptography`, or leave bundle_public_key empty"
        ) from error
    if len(signature) != SIGNATURE_BYTES:
        raise SignatureError(f"has {len(signature)} bytes; a signature has {SIGNATURE_BYTES}. Sign the bundle again")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
    except InvalidSignature as error:
        raise SignatureError(
            "is no signature of this bundle.yaml by the owner of bundle_public_key. If you changed the bundle, sign it "
            "again with python -m training.sign_bundle; if not, do not use it"
        ) from error
