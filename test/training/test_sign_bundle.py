"""Signed bundles: who has the key decides, over every file, and nobody else."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="cryptography is not installed")

from ros_ood_perception.bundle.model_bundle import BundleError, read_bundle, write_description
from ros_ood_perception.replay.command_line.main import main as replay
from training.sign_bundle import main as sign

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The public key of `tmp_path/key.pem`."""
    assert sign(["--new-key", str(tmp_path / "key.pem")]) == 0
    said = capsys.readouterr().out
    return said.rpartition("bundle_public_key: ")[2].strip()


@pytest.fixture
def signed(shipped_bundle: Path, tmp_path: Path, key: str) -> Path:
    folder = Path(shutil.copytree(shipped_bundle, tmp_path / "bundle"))
    assert sign([str(folder), "--key", str(tmp_path / "key.pem")]) == 0
    return folder


def test_a_signed_bundle_is_read_with_the_key_and_without(signed: Path, key: str, tmp_path: Path) -> None:
    assert read_bundle(signed, key).description == read_bundle(signed).description
    assert (signed / "bundle.sig").stat().st_size == 64
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    assert len(base64.b64decode(key)) == 32


def test_another_program_that_knows_the_format_reads_it_too(signed: Path, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    command = [openssl, "pkeyutl", "-verify", "-rawin", "-inkey", str(tmp_path / "key.pem")]
    command += ["-in", str(signed / "bundle.yaml"), "-sigfile", str(signed / "bundle.sig")]
    assert "Verified" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def lowered(folder: Path) -> None:
    path = folder / "bundle.yaml"
    path.write_text(re.sub(r"threshold: 0\.\d", "threshold: 0.1", path.read_text(), count=1))


def flipped(folder: Path) -> None:
    contents = bytearray((folder / "bundle.sig").read_bytes())
    contents[10] ^= 1
    (folder / "bundle.sig").write_bytes(contents)


def of_another(folder: Path) -> None:
    other = folder.parent / "other.pem"
    assert sign(["--new-key", str(other)]) == 0
    assert sign([str(folder), "--key", str(other)]) == 0


def blank(folder: Path) -> None:
    path = folder / "bundle.yaml"
    path.write_bytes(path.read_bytes() + b"\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lowered, r"bundle\.sig: is not the signature of this bundle\.yaml by the owner of bundle_public_key"),
        (flipped, "is not the signature of this bundle"),
        (of_another, "is not the signature of this bundle"),
        (blank, "is not the signature of this bundle"),
        (lambda f: (f / "bundle.sig").unlink(), r"bundle\.sig: cannot be read .*training\.sign_bundle makes it"),
        (lambda f: (f / "bundle.sig").write_bytes(bytes(64)), "is not the signature"),
        (lambda f: (f / "bundle.sig").write_bytes(bytes(63)), "has 63 bytes; a signature has 64"),
        (lambda f: (f / "bundle.sig").write_bytes(bytes(65)), "has 65 bytes; at most 64"),
        (lambda f: shutil.copy(f / "model_fp16.onnx", f / "model.onnx"), r"model\.onnx: SHA-256 is"),
        (lambda f: shutil.copy(f / "model.onnx", f / "model_fp16.onnx"), r"model_fp16\.onnx: SHA-256 is"),
    ],
)
def test_whatever_is_changed_is_refused(signed: Path, key: str, change: Callable[[Path], object], message: str) -> None:
    change(signed)
    with pytest.raises(BundleError, match=message):
        read_bundle(signed, key)


def test_the_signature_is_asked_before_anything_of_the_bundle_is_read(signed: Path, key: str) -> None:
    (signed / "bundle.yaml").write_text("no: [yaml")
    with pytest.raises(BundleError, match="is not the signature"):
        read_bundle(signed, key)


@pytest.mark.parametrize("wrong", ["x", "AAAA", "A" * 44, "ö" * 44, "=" * 44, "A" * 42 + "=="])
def test_a_key_that_is_none_is_named(signed: Path, wrong: str) -> None:
    with pytest.raises(BundleError, match=r"bundle_public_key is .*; it must be an ed25519 key of 32 bytes in base64"):
        read_bundle(signed, wrong)


def test_what_is_written_anew_is_not_signed(signed: Path, key: str) -> None:
    write_description(signed, read_bundle(signed, key).description)
    assert not (signed / "bundle.sig").exists()


def test_where_the_package_is_missing_the_error_says_so(
    signed: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(BundleError, match=r"needs the package cryptography .*pip install cryptography"):
        read_bundle(signed, key)
    assert read_bundle(signed).description.name == "camvid_small"


def test_the_replay_asks_for_it(signed: Path, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (signed / "bundle.sig").unlink()
    out = tmp_path / "out"
    frames = tmp_path / "frames"
    frames.mkdir()
    command = [str(frames), "--bundle", str(signed), "--out", str(out), "--set", f"bundle_public_key={key}"]
    assert replay(command) != 0
    assert "bundle.sig: cannot be read" in capsys.readouterr().err
    assert not out.exists()


def test_errors_name_the_file(signed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sign(["--new-key", str(tmp_path / "key.pem")]) == 2
    assert "key.pem" in capsys.readouterr().err
    (tmp_path / "no.pem").write_text("no key")
    assert sign([str(signed), "--key", str(tmp_path / "no.pem")]) == 2
    assert "no.pem: not an unencrypted private key in PEM" in capsys.readouterr().err
    assert sign([str(tmp_path), "--key", str(tmp_path / "key.pem")]) == 2
    assert "bundle.yaml: cannot be read" in capsys.readouterr().err
    for wrong in ([], [str(signed)], ["--key", "k"], [str(signed), "--new-key", "k"]):
        with pytest.raises(SystemExit):
            sign(wrong)
