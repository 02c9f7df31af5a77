"""What a policy hands back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Decision:
    """A transition to a phase, which may be the present one.

    Args:
        phase: the phase that follows.
        memory: what the policy has to remember, as plain JSON data.
        reason: for people, in a line.
        found: the numbers behind it, as plain JSON data.
        indices: the rows that the transition takes, by name.
        afresh: whether the phase computes something else, so that metrics measured before say
            nothing of it.
    """

    phase: str
    memory: Mapping[str, Any]
    reason: str
    found: Mapping[str, Any]
    indices: Mapping[str, np.ndarray] = field(default_factory=dict)
    afresh: bool = False
