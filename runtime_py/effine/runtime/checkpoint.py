"""Checkpoints: a run at a moment, in one safetensors file.

Metadata are strings: texts as they are, everything else as canonical JSON, so integers are
decimal and floats read back exactly. `sha256` covers the canonical JSON of the other
metadata followed by the bytes of all tensors in order. The tensors are the state in manifest
order, then the best parameters so far under `best.`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self, get_type_hints

import numpy as np

from effine.runtime.codec import Count, FormatError, Hash, Text, between, canonical, decode, parse
from effine.runtime.engines import Arrays
from effine.runtime.errors import CheckpointError, IncompatibleCheckpoint, StateError
from effine.runtime.identity import state_id
from effine.runtime.manifest import Manifest
from effine.runtime.report import Report
from effine.runtime.run import IMPLIED, Run, Settings
from effine.runtime.state import ordered
from effine.runtime.tensors import read_tensors, write_tensors

FORMAT = "effine checkpoint"
SCHEMA = 1
_BEST = "best."
_ARRAYS = ("state", "best_state")
_NAMES = {
    "method": "method",
    "first_layer": "first layer",
    "backbone": "backbone",
    "labels": "labels",
    "spare_labels": "spare labels",
    "state": "state layout",
}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A run at a moment; with the artifact and the data it is all that is needed to go on.

    Args:
        state: the tensors of the phase's layout.
        best_state: parameters with the best metric so far.
        identity: what the artifact must have in common, see `Manifest.identity`.
        manifest_sha256: of the very artifact that was trained.
        phase, policy: where a method with phases stands.
        step: updates since the moments were zeroed.
        update, total_updates: the schedule's counter.
        epoch: finished epochs.
        cursor: finished batches of the current epoch.
        data_fingerprint: of training and evaluation data.
        settings: hyper-parameters.
        labels: in head order, with those added on the device.
        report: what has been reported so far.
    """

    state: Arrays
    best_state: Arrays | None
    identity: dict[str, Any]
    state_id: Hash
    manifest_sha256: Hash
    phase: Text
    policy: dict[str, Any]
    step: Count
    update: Count
    total_updates: Count
    epoch: Count
    cursor: Count
    seed: Annotated[int, between(0, 2**64 - 1)]
    data_fingerprint: Text
    settings: dict[str, Any]
    best_metric: float | None
    patience_left: int
    labels: tuple[Text, ...]
    report: dict[str, Any]

    @classmethod
    def of(
        cls, manifest: Manifest, *, state: Arrays, best_state: Arrays | None, **fields: Any
    ) -> Self:
        """Make a checkpoint for an artifact.

        Args:
            fields: all but `identity`, `state_id` and `manifest_sha256`.

        Raises:
            StateError: the arrays aren't those of the manifest.
        """
        return cls(
            state=ordered(state, manifest.layout(fields["phase"]), "state"),
            best_state=best_state
            and ordered(best_state, manifest.parameters_in(fields["phase"]), "best state"),
            identity=manifest.identity,
            state_id=manifest.state_id,
            manifest_sha256=manifest.sha256,
            **fields,
        )

    @classmethod
    def of_run(
        cls, manifest: Manifest, run: Run, state: Arrays, phase: str, labels: Sequence[str]
    ) -> Self:
        """Make a checkpoint of a run in a phase.

        Raises:
            StateError: the arrays aren't those of the manifest.
        """
        return cls.of(
            manifest,
            state=state,
            best_state=run.best,
            phase=phase,
            policy=run.policy,
            step=run.step,
            update=run.update,
            total_updates=run.total,
            epoch=run.epoch,
            cursor=run.cursor,
            seed=run.settings.seed,
            data_fingerprint=run.fingerprint,
            settings=run.settings.to_dict(),
            best_metric=run.best_metric,
            patience_left=run.patience_left,
            labels=tuple(labels),
            report=run.report.saved(),
        )

    def run(self) -> Run:
        """Where the run stood."""
        return Run(
            settings=Settings(**self.settings),
            fingerprint=self.data_fingerprint,
            total=self.total_updates,
            epoch=self.epoch,
            cursor=self.cursor,
            update=self.update,
            step=self.step,
            best_metric=self.best_metric,
            best=dict(self.best_state) if self.best_state else None,
            patience_left=self.patience_left,
            policy=self.policy,
            report=Report.from_dict(self.report),
        )

    def save(self, path: Path | str) -> None:
        """Write the checkpoint; the file is replaced whole or stays as it was.

        Raises:
            StateError: the disk refuses the file, or a value isn't finite.
        """
        metadata = {"format": FORMAT, "schema": str(SCHEMA)}
        tensors = self.state | {_BEST + n: array for n, array in (self.best_state or {}).items()}
        try:
            for name in _metadata_types():
                value = getattr(self, name)
                metadata[name] = value if isinstance(value, str) else canonical(value)
            metadata["sha256"] = _digest(metadata, tensors)
        except (TypeError, ValueError) as error:
            raise StateError(f"{path}: the run can't be expressed as JSON: {error}") from error
        write_tensors(path, tensors, metadata)

    @classmethod
    def load(cls, path: Path | str, manifest: Manifest) -> Self:
        """Read a checkpoint for an artifact.

        Raises:
            IncompatibleCheckpoint: it belongs to an artifact that differs in what is named.
            CheckpointError: it is damaged, newer than this version, or not a checkpoint.
        """
        try:
            tensors, metadata = read_tensors(path)
            _check_format(path, metadata, tensors)
            fields = _decoded(metadata)
            _check_identity(path, fields, manifest)
            best = {n: a for n, a in tensors.items() if n.startswith(_BEST)}
            state = {name: array for name, array in tensors.items() if name not in best}
            _check_phase(fields["phase"], manifest)
            best = {name.removeprefix(_BEST): array for name, array in best.items()}
            loaded = cls(
                state=ordered(state, manifest.layout(fields["phase"]), path),
                best_state=ordered(best, manifest.parameters_in(fields["phase"]), path)
                if best
                else None,
                **fields,
            )
        except StateError as error:
            raise CheckpointError(str(error)) from error
        except FormatError as error:
            raise CheckpointError(f"{path}: damaged: {error}") from error
        _check_labels(path, loaded.labels, manifest)
        return loaded


def resume_differences(
    checkpoint: Checkpoint,
    *,
    settings: Mapping[str, Any],
    data_fingerprint: str,
    manifest_sha256: str | None = None,
) -> list[str]:
    """What differs between an interrupted run and the one that is to go on from it.

    Args:
        checkpoint: of the interrupted run.
        settings: hyper-parameters of the new run, the seed among them.
        data_fingerprint: of the data of the new run.
        manifest_sha256: of the artifact of the new run; None to accept any that loads
            the checkpoint.

    Returns:
        One phrase for each difference; none when the run can go on.
    """
    differences = _compare("setting ", IMPLIED | checkpoint.settings, IMPLIED | dict(settings))
    if checkpoint.data_fingerprint != data_fingerprint:
        differences.append("the data are not those of the interrupted run")
    if manifest_sha256 not in (None, checkpoint.manifest_sha256):
        differences.append("the artifact has been exported again since")
    return differences


def _metadata_types() -> dict[str, Any]:
    hints = get_type_hints(Checkpoint, include_extras=True)
    names = (field.name for field in dataclasses.fields(Checkpoint))
    return {name: hints[name] for name in names if name not in _ARRAYS}


def _digest(metadata: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(canonical(dict(metadata)).encode())
    for array in tensors.values():
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _check_format(
    path: Path | str, metadata: dict[str, str], tensors: Mapping[str, np.ndarray]
) -> None:
    """Check and take away what is about the file rather than the run."""
    if metadata.pop("format", None) != FORMAT:
        raise CheckpointError(f"{path}: not an effine checkpoint")
    schema = metadata.pop("schema", "")
    if schema.isdecimal() and len(schema) < 10 and int(schema) > SCHEMA:
        raise CheckpointError(
            f"{path}: schema {schema} is newer than this version reads ({SCHEMA}); update effine"
        )
    recorded = metadata.pop("sha256", "")
    described = {"format": FORMAT, "schema": str(SCHEMA), **metadata}
    if schema != str(SCHEMA) or recorded != _digest(described, tensors):
        raise CheckpointError(f"{path}: damaged: its contents don't give its sha256")


def _decoded(metadata: Mapping[str, str]) -> dict[str, Any]:
    types = _metadata_types()
    if metadata.keys() != types.keys():
        names = sorted(metadata.keys() ^ types.keys())
        raise FormatError(f"{', '.join(names)} missing or unknown")
    return {
        name: decode(kind, metadata[name] if _is_text(kind) else parse(metadata[name]), name)
        for name, kind in types.items()
    }


def _is_text(kind: Any) -> bool:
    return getattr(kind, "__origin__", kind) is str


def _check_identity(path: Path | str, fields: dict[str, Any], manifest: Manifest) -> None:
    identity = fields["identity"]
    if state_id(identity) != fields["state_id"]:
        raise FormatError("state_id doesn't belong to its identity")
    if fields["state_id"] == manifest.state_id:
        return
    here = manifest.identity
    there = identity.get("options")
    differences = _compare("option ", there, here["options"]) if isinstance(there, dict) else []
    differences += [
        f"{name} ({_brief(identity.get(key))} there, {_brief(here[key])} here)"
        for key, name in _NAMES.items()
        if identity.get(key) != here[key]
    ]
    raise IncompatibleCheckpoint(
        f"{path}: belongs to another artifact: {'; '.join(differences)}; nothing was changed"
    )


def _check_phase(phase: str, manifest: Manifest) -> None:
    if manifest.phases and phase not in manifest.phases:
        raise FormatError(f"phase {_brief(phase)} is unknown to the artifact")


def _compare(prefix: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    return [
        f"{prefix}{name} ({_brief(there.get(name))} there, {_brief(here.get(name))} here)"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]


def _brief(value: Any) -> str:
    text = canonical(value) if value is not None else "none"
    return text if len(text) <= 40 else text[:40] + "..."


def _check_labels(path: Path | str, labels: tuple[str, ...], manifest: Manifest) -> None:
    known, spare = manifest.task.labels, manifest.task.spare_labels
    added = labels[len(known) :]
    if labels[: len(known)] != known or len(added) > spare or len(set(labels)) != len(labels):
        raise CheckpointError(f"{path}: damaged: its labels don't continue the artifact's")
