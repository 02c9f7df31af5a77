"""What a checkpoint must share with the artifact that loads it."""

from __future__ import annotations

import hashlib
from typing import Any

from effine.runtime.codec import canonical, encode
from effine.runtime.manifest_fields import MethodInfo, TaskInfo
from effine.runtime.phases import StateTensor


def identity(
    method: MethodInfo, backbone: str, task: TaskInfo, state: tuple[StateTensor, ...]
) -> dict[str, Any]:
    """The identity of a state; `backbone` is the SHA-256 of the backbone's values."""
    return {
        "method": method.name,
        "options": encode(method.options),
        "first_layer": method.first_layer,
        "backbone": backbone,
        "labels": list(task.labels),
        "spare_labels": task.spare_labels,
        "state": hashlib.sha256(canonical(encode(state)).encode()).hexdigest(),
    }


def state_id(identity: dict[str, Any]) -> str:
    """The SHA-256 of an identity's canonical JSON."""
    return hashlib.sha256(canonical(identity).encode()).hexdigest()
