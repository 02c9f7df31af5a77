"""What a phone does, in Python: the reference implementation."""

from effine.runtime.artifact import Artifact
from effine.runtime.bundle import Bundle
from effine.runtime.trainer import Trainer

__all__ = ["Artifact", "Bundle", "Trainer"]
