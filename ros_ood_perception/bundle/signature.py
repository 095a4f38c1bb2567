"""The optional signature of a bundle: ed25519 over the bytes of `bundle.yaml`, which holds every file's digest.

`bundle.sig` holds only the 64 bytes of the signature, so that `openssl pkeyutl -verify -rawin` reads it as well.
`python -m training.sign_bundle` makes it. The package `cryptography` is needed only where a public key is set.
"""

from __future__ import annotations

import base64
import binascii

from ros_ood_perception.errors import PerceptionError

SIGNATURE_FILE = "bundle.sig"
SIGNATURE_BYTES = 64
_KEY_BYTES = 32


class SignatureError(PerceptionError, ValueError):
    """The signature does not match, or the key is not a key. The message says which, with the remedy."""


def key_bytes(public_key: str) -> bytes:
    """The 32 bytes of a public key, as `python -m training.sign_bundle --new-key` prints it (base64, 44 characters).

    Raises:
        SignatureError: it is not an ed25519 key in base64.
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
    """Refuse bytes that the owner of the public key did not sign.

    Raises:
        SignatureError: the signature is wrong, the key is not a key, or `cryptography` is not installed.
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
            "is not the signature of this bundle.yaml by the owner of bundle_public_key. If you changed the bundle, "
            "sign it again with python -m training.sign_bundle; if not, do not use it"
        ) from error
