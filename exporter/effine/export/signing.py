"""Keys that tell whose artifact it is: ECDSA on P-256, in PEM files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from effine.export.errors import ExportError


@dataclass(frozen=True)
class PrivateKey:
    """Signs artifacts and bundles."""

    key: ec.EllipticCurvePrivateKey

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a PEM file without a password.

        Raises:
            ExportError: it is anything else, or on another curve than P-256.
        """
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            raise ExportError(f"{path}: can't be read: {error.strerror or error}") from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ExportError(
                f"{path}: isn't a private key in PEM without a password; "
                "make one with effine keygen"
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise ExportError(
                f"{path}: isn't a key on the curve P-256; make one with effine keygen"
            )
        return cls(key)

    def sign(self, content: bytes) -> bytes:
        """The signature in DER; the same content gives the same bytes (RFC 6979)."""
        return self.key.sign(content, ec.ECDSA(SHA256(), deterministic_signing=True))


def make_key(private: Path) -> Path:
    """Make a key: a file that only its owner may read, and the public key beside it.

    Args:
        private: the file for the private key, such as `key.pem`.

    Returns:
        The file with the public key, such as `key.pub.pem`.

    Raises:
        ExportError: one of the files exists, or can't be written; nothing is left behind.
    """
    public = private.with_name(f"{private.stem}.pub{private.suffix}")
    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    open_part = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _write_new(private, secret, 0o600)
    try:
        _write_new(public, open_part, 0o644)
    except ExportError:
        private.unlink()
        raise
    return public


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise ExportError(f"{path}: exists already; choose another name") from error
    except OSError as error:
        raise ExportError(f"{path}: can't be written: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink()
        raise ExportError(f"{path}: can't be written: {error.strerror}") from error
