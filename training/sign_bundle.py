"""Sign a bundle. A vehicle with the public key then accepts only bundles with this signature.

    python -m training.sign_bundle --new-key KEY.pem
    python -m training.sign_bundle models/mine --key KEY.pem

The first command makes a private key (ed25519, PEM, readable by its owner only) and prints the public key, for the
node's parameter `bundle_public_key`. The second writes `bundle.sig`: a signature of the bytes of `bundle.yaml`, which
holds the SHA-256 of every other file. Commands that rewrite the bundle (export, calibrate, precisions) remove the
signature, so sign last.
"""

from __future__ import annotations

import argparse
import base64
import os
import sys
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ros_ood_perception.bundle.model_bundle import DESCRIPTION_FILE, read_bundle
from ros_ood_perception.bundle.signature import SIGNATURE_FILE
from ros_ood_perception.errors import PerceptionError
from ros_ood_perception.files.atomic_files import write_file
from ros_ood_perception.files.plain_file import NotPlainError, read_plain_file
from ros_ood_perception.files.strict_yaml import LARGEST_FILE_BYTES

LARGEST_KEY_BYTES = 1 << 14


class KeyFileError(PerceptionError, ValueError):
    """A file without a usable private key. The message names it."""


def public_key(key: Ed25519PrivateKey) -> str:
    """The public key in base64, 44 characters, for the parameter `bundle_public_key`."""
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return base64.b64encode(raw).decode()


def new_key(path: Path) -> Ed25519PrivateKey:
    """Make a private key and write it, readable by its owner only.

    Raises:
        OSError: the file exists already, or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    contents = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(contents)
        file.flush()
        os.fsync(file.fileno())
    return key


def read_key(path: Path) -> Ed25519PrivateKey:
    """A private key from a PEM file.

    Raises:
        OSError: it cannot be read.
        KeyFileError: it is not an unencrypted ed25519 key.
    """
    try:
        key = serialization.load_pem_private_key(read_plain_file(path, LARGEST_KEY_BYTES), None)
    except (ValueError, TypeError, UnsupportedAlgorithm, NotPlainError) as error:
        raise KeyFileError(f"{path}: not an unencrypted private key in PEM ({error})") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path}: holds a key of another kind; make an ed25519 key with --new-key")
    return key


def sign(folder: Path, key: Ed25519PrivateKey) -> None:
    """Verify a bundle and write its `bundle.sig`.

    Raises:
        BundleError: the bundle is invalid, or was changed meanwhile.
        OSError: the file cannot be written.
    """
    read_bundle(folder)
    signature = key.sign(read_plain_file(folder / DESCRIPTION_FILE, LARGEST_FILE_BYTES))
    write_file(folder / SIGNATURE_FILE, signature)
    read_bundle(folder, public_key(key))


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.sign_bundle", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, nargs="?", help="folder of the model bundle")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--key", type=Path, help="file of the private key to sign with")
    given.add_argument("--new-key", type=Path, metavar="KEY", help="file to write a new private key to")
    options = parser.parse_args(arguments)
    if (options.bundle is None) == (options.key is not None):
        parser.error("give a bundle and --key, or --new-key alone")
    try:
        if options.new_key is not None:
            key = new_key(options.new_key)
            print(f"{options.new_key}: a new private key; keep it off the vehicle")
        else:
            key = read_key(options.key)
            sign(options.bundle, key)
            print(f"{options.bundle / SIGNATURE_FILE}: signed")
    except (PerceptionError, OSError) as error:
        print(f"sign_bundle: {error}", file=sys.stderr)
        return 2
    print(f"bundle_public_key: {public_key(key)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
