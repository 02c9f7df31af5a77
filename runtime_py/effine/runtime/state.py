"""The state: everything that training changes, as named tensors in manifest order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from effine.runtime.engines import Arrays
from effine.runtime.errors import StateError
from effine.runtime.manifest import Manifest
from effine.runtime.manifest_fields import ProgramMethod
from effine.runtime.phases import StateTensor


def initial_state(manifest: Manifest, parameters: Mapping[str, np.ndarray]) -> Arrays:
    """A state with these parameters and zero moments, in manifest order.

    Raises:
        StateError: the parameters aren't those of the manifest.
    """
    return zero_moments(manifest, ordered(parameters, manifest.parameters, "parameters"))


def zero_gradients(method: ProgramMethod) -> Arrays:
    """Gradient sums of zero, as a method takes them that adds to them or applies them."""
    return {
        spec.name: np.zeros(spec.shape, np.float32)
        for spec in method.inputs
        if spec.role == "gradient"
    }


def zero_moments(manifest: Manifest, state: Mapping[str, np.ndarray]) -> Arrays:
    """The state of the first phase with the same parameters and all else zero, in order."""
    return {
        entry.name: state[entry.name]
        if entry.role == "parameter"
        else np.zeros(entry.shape, entry.dtype)
        for entry in manifest.layout(manifest.first_phase)
    }


def parameters_of(manifest: Manifest, state: Mapping[str, np.ndarray], phase: str) -> Arrays:
    """The parameters alone, as a phase has them, in manifest order; the arrays are shared."""
    return {entry.name: state[entry.name] for entry in manifest.parameters_in(phase)}


def ordered(
    arrays: Mapping[str, np.ndarray], layout: Sequence[StateTensor], source: object
) -> Arrays:
    """The arrays in the layout's order.

    Args:
        source: what the arrays come from, for the message.

    Raises:
        StateError: with every name, shape and dtype that differs from the layout.
    """
    problems = []
    for entry in layout:
        array = arrays.get(entry.name)
        if array is None:
            problems.append(f"{entry.name!r} is missing")
        elif array.shape != entry.shape or array.dtype != entry.dtype:
            problems.append(
                f"{entry.name!r} is {array.dtype}{list(array.shape)}, "
                f"not {entry.dtype}{list(entry.shape)}"
            )
    known = {entry.name for entry in layout}
    problems += [f"{name!r} is unknown" for name in arrays if name not in known]
    if problems:
        raise StateError(f"{source}: doesn't fit the artifact: {'; '.join(problems)}")
    return {entry.name: arrays[entry.name] for entry in layout}
