"""Policies: what a method decides between updates, over the state alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from effine.runtime.manifest import Manifest
from effine.runtime.policies.autofreeze import AutoFreeze
from effine.runtime.policies.decision import Decision
from effine.runtime.policies.far import Far
from effine.runtime.policies.gates import Gates


class Policy(Protocol):
    """Decides on phases; what it has to remember is handed to it."""

    def decide(
        self,
        memory: Mapping[str, Any],
        update: int,
        phase: str,
        state: Mapping[str, np.ndarray],
    ) -> Decision | None:
        """What follows from the state after an update, or None to go on as before.

        Args:
            memory: what the last decision remembered, at first empty.
            update: finished updates of the run.
        """
        ...

    def way_back(self, memory: Mapping[str, Any]) -> Mapping[str, np.ndarray] | None:
        """The rows with which the parameters get their original layout back after a run.

        None where they have kept it.
        """
        ...


_POLICIES: dict[str, Callable[[Manifest, int], Policy]] = {
    "autofreeze": AutoFreeze,
    "far": Far,
    "gates": Gates,
}


def policy_for(manifest: Manifest, updates: int) -> Policy | None:
    """The policy of the artifact's method in a run of so many updates; most have none."""
    policy = _POLICIES.get(manifest.method_info.name)
    return None if policy is None else policy(manifest, updates)
