"""Signatures: ECDSA on P-256 over a file's SHA-256, in DER, in a second file beside it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from effine.runtime.errors import ArtifactError, EffineError
from effine.runtime.files import read_plain

MAX_SIGNATURE = 1024


@dataclass(frozen=True)
class PublicKey:
    """A P-256 key that tells whose artifact it is."""

    key: ec.EllipticCurvePublicKey

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Read a PEM file (`BEGIN PUBLIC KEY`).

        Raises:
            EffineError: it is anything else, or on another curve.
        """
        try:
            key = load_pem_public_key(Path(path).read_bytes())
        except OSError as error:
            raise EffineError(f"{path}: can't be read: {error.strerror or error}") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise EffineError(
                f"{path}: isn't a public key in PEM; make one with effine keygen"
            ) from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            raise EffineError(
                f"{path}: isn't a key on the curve P-256; make one with effine keygen"
            )
        return cls(key)

    def has_signed(self, content: bytes, signature: bytes) -> bool:
        """Whether a signature (DER) is this key's of the content."""
        try:
            self.key.verify(signature, content, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True

    def check(self, signed: Path, content: bytes, signature: Path) -> None:
        """Check a file's signature.

        Args:
            signed: the file, for messages.
            content: its bytes.
            signature: the file with the signature.

        Raises:
            ArtifactError: it is missing, or not this key's.
        """
        if not os.path.lexists(signature):
            raise ArtifactError(
                f"{signature}: missing, but a signature is demanded; "
                "pack the artifact with effine pack --sign"
            )
        if not self.has_signed(content, read_plain(signature, MAX_SIGNATURE)):
            raise ArtifactError(
                f"{signature}: isn't the expected key's signature of {signed.name}; don't use it"
            )
