"""The export pipeline: a pretrained encoder becomes an artifact that a phone can train."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from effine.export import golden
from effine.export.backbones import Backbone, load_backbone
from effine.export.budget import Plan, within
from effine.export.describe import describe
from effine.export.encoder import ONE_STEP
from effine.export.errors import ExportError
from effine.export.folders import replace_folder
from effine.export.label_words import word_rows
from effine.export.lowering.target import check_target
from effine.export.memory import estimator
from effine.export.methods import make_method
from effine.export.model import Model
from effine.export.optimizers import Optimizer, make_optimizer
from effine.export.phases import state_tensors
from effine.export.platforms import check_platform
from effine.export.precision import choose_precision
from effine.export.prepare import calibration_batches, measure_frozen_head, prepare
from effine.export.programs import Programs, build_programs
from effine.export.shapes import choose_seqs
from effine.export.tasks import Task, find_task, make_task
from effine.runtime.artifact import Artifact, write_artifact
from effine.runtime.data import Source
from effine.runtime.manifest import Manifest
from effine.runtime.tensors import write_tensors

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What to export; the defaults give a SPARTAN artifact of MiniLM on the sample intents.

    Args:
        model: `minilm`, a hub id, or a local directory.
        method: the tuning method.
        options: the method's own options by name.
        first_layer: the first block (1-based) that gets pieces; blocks below stay frozen.
        task: a task's name, see `effine.export.tasks`.
        data: training data that sets labels, lengths and the golden run.
        labels: a file with one label a line; makes data unnecessary.
        spare_labels: rows of the head that a device may claim for new labels.
        label_words: JSON that maps labels to the words that a head on a decoder starts from.
        pooling: `cls`, `mean` or `decoder`; by default the backbone's own. Tasks on tokens have
            none.
        seq: `auto` or comma-separated sequence lengths.
        batch: batch size of training, by default 8.
        accumulate: batches whose gradients one update sums up, by default 1.
        optimizer: `adamw` or `sgd`.
        backbone_precision: `fp32`, the default, `int8` or `int4` for the frozen weights.
        recompute: compute results again for the backward pass instead of keeping them, by default
            not.
        target: `xnnpack`, ExecuTorch programs for phones, or `onnx`, for ONNX Runtime.
        platform: `android` refuses what its SDK can't serve; by default any platform will do.
        max_memory: bytes that training may take; of the settings above, those that were
            left at None give way.
        seed: seed of the pieces' initial values.
    """

    model: str = "minilm"
    method: str = "spartan"
    options: Mapping[str, Any] = field(default_factory=dict)
    first_layer: int | None = None
    task: str = "classification"
    data: Source | None = None
    labels: Path | None = None
    spare_labels: int = 0
    label_words: Path | None = None
    pooling: str | None = None
    seq: str = "auto"
    batch: int | None = None
    accumulate: int | None = None
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    clip_norm: float = 0.0
    backbone_precision: str | None = None
    recompute: bool | None = None
    target: str = "xnnpack"
    platform: str | None = None
    max_memory: int | None = None
    seed: int = 0


def export(
    model: str = "minilm",
    *,
    out: str | Path | None = None,
    force: bool = False,
    progress: Progress = lambda stage: None,
    **settings: Any,
) -> Artifact:
    """Export a pretrained encoder as an artifact; the other arguments are those of `Settings`.

    Args:
        out: the artifact's directory, by default `METHOD.effine` here.
        force: replace an existing `out`.
        progress: called with a short description of each stage.

    Returns:
        The verified artifact.

    Raises:
        ExportError: a setting is wrong, or `out` can't be written; nothing is left behind.
        DataError: the data can't be used; nothing is left behind.
    """
    chosen = Settings(model=model, **settings)
    folder = _check_out(Path(out or f"{chosen.method}.effine"), force)
    check_target(chosen.target, chosen.backbone_precision, chosen.max_memory, chosen.recompute)
    method = make_method(chosen.method, chosen.options, chosen.first_layer)
    if method.needs_whole_batch and (chosen.accumulate or 1) > 1:
        raise ExportError("--accumulate: parts of a batch don't give load_balance; leave one out")
    optimizer = make_optimizer(chosen.optimizer, chosen.weight_decay, chosen.clip_norm)
    chosen = dataclasses.replace(chosen, pooling=_pooling(chosen))
    progress("loading the backbone")
    backbone = load_backbone(chosen.model, chosen.pooling)
    check_platform(chosen.platform, chosen.target, chosen.task, backbone.tokenizer)
    data = prepare(chosen.task, chosen.data, chosen.labels, chosen.spare_labels, backbone)
    seqs = choose_seqs(chosen.seq, data.lengths, backbone.max_length)
    samples = data.samples(max(seqs))
    task = make_task(chosen.task, data.outputs, chosen.spare_labels)
    if data.lengths:
        task.begin_at(samples.labels)
    if chosen.pooling == ONE_STEP and task.begins_with_words:
        task.begin_with(word_rows(backbone, data.labels, chosen.label_words))
    layers = backbone.encoder.depth if method.layered else 0
    plan = _plan(chosen, max(seqs), layers, task, optimizer, progress)
    progress("measuring the frozen head")
    frozen_head = measure_frozen_head(backbone, task, data, max(seqs))
    method = make_method(chosen.method, chosen.options, plan.first_layer)
    trained = Model(backbone.encoder, method, task, chosen.seed)
    precision = choose_precision(plan.precision, trained, calibration_batches(backbone))
    progress("recording the golden run")
    steps = golden.GoldenData(samples.tokens, samples.labels, plan.batch, seqs, backbone.pad_id)
    recorded = golden.record(trained, optimizer, steps, precision, chosen.seed)
    programs = build_programs(
        trained,
        optimizer,
        plan.batch,
        seqs,
        precision,
        accumulate=plan.accumulate > 1,
        recompute=plan.recompute,
        target=chosen.target,
        progress=progress,
    )
    progress("writing the artifact")
    manifest = describe(
        folder.stem,
        trained,
        optimizer,
        backbone,
        programs,
        data.labels,
        plan=plan,
        seqs=seqs,
        pair=data.pair,
        frozen_head=frozen_head,
        tolerances=recorded.tolerances,
    )
    try:
        _write(folder, manifest, trained, optimizer, backbone, programs, recorded)
    except OSError as error:
        raise ExportError(f"{folder}: can't be written: {error.strerror}") from error
    return Artifact.open(folder)


def _pooling(chosen: Settings) -> str | None:
    """The pooling that was chosen, or that the task needs.

    Raises:
        ExportError: the task is unknown, or pools nothing and a pooling was chosen; or words
            are given to a head that doesn't start from any.
    """
    task = find_task(chosen.task)
    needed = task.pooling
    if chosen.label_words and not (chosen.pooling == ONE_STEP and task.begins_with_words):
        raise ExportError(f"--label-words: needs --pooling {ONE_STEP} and --task classification")
    if needed is not None and chosen.pooling is not None:
        raise ExportError(f"--pooling {chosen.pooling}: --task {chosen.task} needs all tokens")
    return needed or chosen.pooling


def _plan(
    chosen: Settings,
    seq: int,
    layers: int,
    task: Task,
    optimizer: Optimizer,
    progress: Progress,
) -> Plan:
    """What was asked for, or what fits into the bound on memory."""
    wanted = Plan(
        chosen.backbone_precision or "fp32",
        chosen.batch or 8,
        chosen.accumulate or 1,
        chosen.first_layer,
        seq,
        layers,
        chosen.recompute or False,
    )
    if chosen.max_memory is None:
        return wanted
    progress("fitting into the bound on memory")

    def build(first_layer: int | None) -> Model:
        encoder = load_backbone(chosen.model, chosen.pooling).encoder
        method = make_method(chosen.method, chosen.options, first_layer)
        return Model(encoder, method, task, chosen.seed)

    method = make_method(chosen.method, chosen.options, chosen.first_layer)
    given = {
        "precision": chosen.backbone_precision or (None if method.freezes_layers else "fp32"),
        "batch": chosen.batch,
        "accumulate": chosen.accumulate or (1 if method.needs_whole_batch else None),
        "first_layer": chosen.first_layer,
        "recompute": chosen.recompute,
    }
    fixed = {name for name, value in given.items() if value is not None}
    estimate = estimator(build, optimizer)
    return within(chosen.max_memory, wanted, frozenset(fixed), estimate)


def _check_out(out: Path, force: bool) -> Path:
    target = out.absolute()
    if target.exists() and not force:
        raise ExportError(f"{out}: exists already; choose another --out or pass --force")
    if target.exists() and not (target / "manifest.json").is_file():
        raise ExportError(f"{out}: is not an artifact; --force replaces artifacts only")
    if not target.parent.is_dir():
        raise ExportError(f"{out.parent}: no such directory; create it first")
    return target


def _write(
    target: Path,
    manifest: Manifest,
    model: Model,
    optimizer: Optimizer,
    backbone: Backbone,
    programs: Programs,
    recorded: golden.Recorded,
) -> None:
    """Write into a temporary folder beside the target, verify, and only then move it there."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        folder = Path(scratch, target.name)
        folder.mkdir()
        for name, content in programs.files.items():
            (folder / name).write_bytes(content)
        backbone.tokenizer.save(str(folder / "tokenizer.json"))
        state = state_tensors(model, optimizer)
        params = {entry.name: state[entry.name].numpy() for entry in manifest.parameters}
        write_tensors(folder / "state.safetensors", params, {"format": "effine state"})
        write_tensors(folder / "golden.safetensors", recorded.arrays, recorded.metadata)
        write_artifact(folder, manifest)
        Artifact.open(folder)
        replace_folder(folder, target)
