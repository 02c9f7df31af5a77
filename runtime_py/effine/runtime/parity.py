"""Parity: does an engine train as PyTorch does? Compares a replay with the golden run."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from effine.runtime.artifact import Artifact
from effine.runtime.engines import Arrays, Engine
from effine.runtime.manifest_fields import Tolerances
from effine.runtime.replay import replay, within
from effine.runtime.tensors import atomic_write

_FELL_OVER = 5
_DECAY = 2e-2
_ROUNDING = 1e-6
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Check:
    """One comparison.

    Args:
        worst: the tensor (or step) with the largest error.
        error: its error in the check's own measure, passed while at most `limit`.
        max_abs, relative: its largest absolute and its relative L2 error.
    """

    name: str
    passed: bool
    worst: str
    error: float
    limit: float
    max_abs: float
    relative: float


@dataclass(frozen=True)
class ParityReport:
    """All checks of one engine on one artifact."""

    engine: str
    machine: str
    manifest: str
    ties: int
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def save(self, folder: Path) -> Path:
        """Write `parity-ENGINE.json` into the folder; returns its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"parity-{self.engine}.json"
        content = dataclasses.asdict(self) | {"passed": self.passed}
        with atomic_write(path) as file:
            file.write(json.dumps(content, indent=1).encode() + b"\n")
        return path


def check_engine(artifact: Artifact, engine: Engine, name: str = "python") -> ParityReport:
    """Replay the golden run, again with the state going through a file, and compare.

    An artifact that accumulates gradients has to end alike when it does so.
    """
    result = replay(artifact, engine)
    finite = all(np.isfinite(array).all() for array in result.values())
    resumed = replay(artifact, engine, interrupted=True) if finite else {}
    more = [resume_check(result, resumed)]
    if artifact.manifest.accumulates:
        more += accumulation_checks(artifact, replay(artifact, engine, accumulated=True))
    return compare(artifact, result, name, *more)


def accumulation_checks(artifact: Artifact, result: Arrays) -> list[Check]:
    """Compare a replay with accumulated gradients with the golden run."""
    checks = _differences(artifact.golden(), result, artifact.manifest.tolerances)
    return [dataclasses.replace(check, name=f"accumulated: {check.name}") for check in checks]


def compare(artifact: Artifact, result: Arrays, engine: str, *more: Check) -> ParityReport:
    """Compare a replay's result with the golden run, by the manifest's tolerances."""
    golden, metadata = artifact.golden_with_metadata()
    checks = (
        *_differences(golden, result, artifact.manifest.tolerances),
        _decay(golden, result),
        _moved(golden, result),
        *([_fell(result)] if _fell(golden).passed else []),
        *more,
    )
    return ParityReport(
        engine,
        f"{platform.system()} {platform.machine()}",
        artifact.manifest.sha256,
        int(metadata["ties"]),
        checks,
    )


def errors(golden: Arrays, result: Arrays, limits: Tolerances) -> dict[str, float]:
    """The error of each check that has a limit in the manifest, by the check's name."""
    return {check.name: check.error for check in _differences(golden, result, limits)}


def _differences(golden: Arrays, result: Arrays, limits: Tolerances) -> Iterator[Check]:
    yield from _outputs(golden, result, limits)
    yield _gradients(golden, result, limits)
    yield _losses(golden, result, limits)
    yield from _changes(golden, result, limits)
    if any(key.startswith("statistic.") for key in golden):
        yield _statistics(golden, result, limits)
    later = _after_updates(limits)
    for phase in dict.fromkeys(key.split(".")[1] for key in golden if key.startswith("at.")):
        expected, found = within(golden, phase), within(result, phase)
        for check in (*_outputs(expected, found, later), _gradients(expected, found, later)):
            yield dataclasses.replace(check, name=f"{phase}: {check.name}")


def _after_updates(limits: Tolerances) -> Tolerances:
    """The limits of a later phase, which starts from parameters that have parted in the run.

    AdamW's first update moves a parameter by the whole rate, however small its gradient, so where
    that is mere rounding engines part by as much.
    """
    wider = limits.change / limits.gradient
    return dataclasses.replace(
        limits,
        feature_rtol=limits.feature_rtol * wider,
        feature_atol=limits.feature_atol * wider,
        gradient=limits.change,
    )


def _outputs(golden: Arrays, result: Arrays, limits: Tolerances) -> Iterator[Check]:
    """Features and logits, element by element or, for quantised weights, by their cosine.

    Those of the first phase are also compared with what unquantised weights give; a short golden
    run has neither these nor features.
    """
    features = [key for key in golden if key.startswith("features.")]
    for title, keys in (("features", features), ("logits", ["logits"])):
        if not keys:
            continue
        if limits.cosine:
            yield _cosines(title, keys, golden, result, limits.cosine)
            whole = {key: golden[f"fp32.{key}"] for key in keys if f"fp32.{key}" in golden}
            if whole:
                yield _cosines(f"{title} against fp32", keys, whole, result, limits.cosine_fp32)
        else:
            errors = {
                key: np.max(
                    np.abs(result[key] - golden[key])
                    / (limits.feature_atol + limits.feature_rtol * np.abs(golden[key]))
                )
                for key in keys
            }
            yield _worst(title, errors, 1.0, golden, result)


def _cosines(title: str, keys: list[str], golden: Arrays, result: Arrays, least: float) -> Check:
    """1 - cosine of all elements together."""
    errors = {
        key: 1.0 - _cosine(result[key].astype(np.float64), golden[key].astype(np.float64))
        for key in keys
    }
    return _worst(title, errors, 1.0 - least, golden, result)


def _floored(
    title: str, prefix: str, golden: Arrays, result: Arrays, limits: Tolerances, limit: float
) -> Check:
    """Errors of the tensors with a prefix, relative to their norm or the gradient floor."""
    floor = limits.gradient_floor * _total_norm(golden)
    errors = {
        key: _norm(_picked(golden, result, key) - golden[key])
        / max(_norm(golden[key]), floor, _TINY)
        for key in golden
        if key.startswith(prefix)
    }
    return _worst(title, errors, limit, golden, result)


def _gradients(golden: Arrays, result: Arrays, limits: Tolerances) -> Check:
    return _floored("gradients", "gradient.", golden, result, limits, limits.gradient)


def _statistics(golden: Arrays, result: Arrays, limits: Tolerances) -> Check:
    """Sums over several updates of the run, which have parted as far as the parameters have."""
    return _floored("statistics", "statistic.", golden, result, limits, limits.change)


def _losses(golden: Arrays, result: Arrays, limits: Tolerances) -> Check:
    errors = np.abs(result["loss"] - golden["loss"]) / np.abs(golden["loss"])
    step = int(np.nan_to_num(errors, nan=np.inf).argmax())
    error = float(errors[step])
    absolute = float(np.abs(result["loss"] - golden["loss"]).max())
    return Check(
        "loss", error <= limits.loss, f"step {step + 1}", error, limits.loss, absolute, error
    )


def _changes(golden: Arrays, result: Arrays, limits: Tolerances) -> Iterator[Check]:
    """Change of the parameters over the run, over all tensors and for each."""
    floor = limits.gradient_floor * _total_norm(golden)
    differences, changes = {}, {}
    for key in golden:
        name = key.removeprefix("end.")
        if key == name or _norm(golden[f"gradient.{name}"]) <= floor:
            continue
        start = _picked(golden, golden, f"start.{name}", name)
        differences[key] = _norm(_picked(golden, result, key) - golden[key])
        changes[key] = _norm(golden[key] - start)
    total = float(
        np.hypot.reduce(list(differences.values())) / np.hypot.reduce(list(changes.values()))
    )
    worst = max(differences, key=differences.__getitem__)
    yield dataclasses.replace(
        _worst("change of all parameters", {worst: total}, limits.change, golden, result)
    )
    each = {key: differences[key] / max(changes[key], _ROUNDING) for key in differences}
    yield _worst("change per tensor", each, limits.change_tensor, golden, result)


def _decay(golden: Arrays, result: Arrays) -> Check:
    """An update without gradients must apply weight decay and nothing else."""
    errors = {}
    for key in golden:
        name = key.removeprefix("decay.")
        if key == name or key == "decay_rate":
            continue
        start = _picked(golden, golden, f"start.{name}", name)
        allowed = _DECAY * _norm(golden[key] - start) + _ROUNDING * _norm(start)
        difference = _norm(_picked(golden, result, key) - golden[key])
        errors[key] = difference / max(allowed, _TINY)
    return _worst("weight decay", errors, 1.0, golden, result)


def _moved(golden: Arrays, result: Arrays) -> Check:
    still = [
        key
        for key in result
        if key.startswith("end.") and (result[key] == golden[f"start.{key[4:]}"]).all()
    ]
    worst = still[0] if still else "none"
    return Check("parameters changed", not still, worst, float(len(still)), 0.0, 0.0, 0.0)


def _fell(result: Arrays) -> Check:
    first, last = result["loss"][:_FELL_OVER].mean(), result["loss"][-_FELL_OVER:].mean()
    ratio = float(last / first)
    where = f"mean of {_FELL_OVER} steps, last / first"
    return Check("loss fell", ratio < 1.0, where, ratio, 1.0, 0.0, 0.0)


def resume_check(result: Arrays, resumed: Arrays) -> Check:
    """Compare a replay with one whose state went through a file half-way: bit for bit."""
    errors = {
        key: float(np.abs(array - resumed.get(key, np.nan)).max())
        for key, array in result.items()
        if key not in resumed or array.tobytes() != resumed[key].tobytes()
    }
    worst = max(errors, key=errors.__getitem__, default="none")
    return Check(
        "resume is bit-exact",
        not errors,
        worst,
        float(len(errors)),
        0.0,
        errors.get(worst, 0.0),
        0.0,
    )


def _worst(
    title: str, errors: dict[str, float], limit: float, golden: Arrays, result: Arrays
) -> Check:
    key = max(errors, key=lambda k: np.nan_to_num(errors[k], nan=np.inf))
    difference = _picked(golden, result, key) - golden[key]
    return Check(
        title,
        bool(errors[key] <= limit),
        key,
        float(errors[key]),
        limit,
        float(np.abs(difference).max()),
        _norm(difference) / max(_norm(golden[key]), _TINY),
    )


def _picked(golden: Arrays, arrays: Arrays, key: str, name: str | None = None) -> np.ndarray:
    """The entries of arrays[key] that the golden run recorded."""
    sample = golden.get(f"sample.{name or key.partition('.')[2]}")
    whole = arrays[key]
    return whole if sample is None else whole.reshape(-1)[sample]


def _total_norm(golden: Arrays) -> float:
    return float(
        np.hypot.reduce(
            [
                float(golden[f"norm.{key}"][0]) if f"norm.{key}" in golden else _norm(golden[key])
                for key in golden
                if key.startswith("gradient.")
            ]
        )
    )


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.vdot(a, b) / max(_norm(a) * _norm(b), _TINY))


def _norm(array: np.ndarray) -> float:
    return float(np.linalg.norm(array.astype(np.float64).reshape(-1)))
