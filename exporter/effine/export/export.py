"""The export pipeline: a pretrained encoder becomes an artifact that a phone can train."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from effine.export import golden, samples
from effine.export.backbones import Backbone, load_backbone
from effine.export.baseline import FOLDS, frozen_head_score
from effine.export.describe import describe
from effine.export.errors import ExportError
from effine.export.methods import make_method
from effine.export.model import Model
from effine.export.optimizers import make_optimizer
from effine.export.programs import Programs, build_programs, state_tensors
from effine.export.shapes import choose_seqs
from effine.export.tasks import make_task
from effine.runtime.artifact import Artifact, write_artifact
from effine.runtime.data import (
    Example,
    Source,
    as_examples,
    encode_labels,
    labels_of,
    read_labels,
)
from effine.runtime.manifest import FrozenHead
from effine.runtime.tensors import write_tensors
from effine.runtime.tokenize import Tokenizer, Tokens

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What to export; the defaults give a SPARTAN artifact of MiniLM on the sample intents.

    Args:
        model: `minilm`, a hub id, or a local directory.
        method: the tuning method.
        options: the method's own options by name.
        first_layer: the first block (1-based) that gets pieces; blocks below stay frozen.
        task: `classification` or `regression`.
        data: training data that sets labels, lengths and the golden run.
        labels: a file with one label a line; makes data unnecessary.
        spare_labels: rows of the head that a device may claim for new labels.
        pooling: `cls` or `mean`; by default the backbone's own.
        seq: `auto` or comma-separated sequence lengths.
        batch: batch size of training.
        optimizer: `adamw` or `sgd`.
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
    pooling: str | None = None
    seq: str = "auto"
    batch: int = 8
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    clip_norm: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Prepared:
    """Examples and labels in the form that the pipeline works on."""

    labels: list[str]
    tokens: list[Tokens]
    targets: np.ndarray
    pair: bool
    real: bool


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
        ExportError: a setting is wrong; nothing has been written.
        DataError: the data can't be used; nothing has been written.
    """
    chosen = Settings(model=model, **settings)
    target = _check_target(Path(out or f"{chosen.method}.effine"), force)
    progress("loading the backbone")
    backbone = load_backbone(chosen.model, chosen.pooling)
    method = make_method(chosen.method, chosen.options, chosen.first_layer)
    optimizer = make_optimizer(chosen.optimizer, chosen.weight_decay, chosen.clip_norm)
    data = prepare(chosen, backbone)
    seqs = choose_seqs(
        chosen.seq, [len(t.ids) for t in data.tokens] if data.real else [], backbone.max_length
    )
    task = make_task(chosen.task, max(1, len(data.labels)), chosen.spare_labels)
    progress("measuring the frozen head")
    frozen_head = _frozen_head(backbone, task, data)
    trained = Model(backbone.encoder, method, task, chosen.seed)
    progress("recording the golden run")
    recorded, ties = golden.record(
        trained,
        optimizer,
        golden.GoldenData(data.tokens, data.targets),
        batch=chosen.batch,
        seqs=seqs,
        token_inputs=trained.encoder.token_inputs,
        pad_id=backbone.pad_id,
        rates=(method.recipe.piece_rate, method.recipe.head_rate),
        seed=chosen.seed,
    )
    progress("capturing and lowering the programs")
    programs = build_programs(trained, optimizer, chosen.batch, seqs)
    manifest = describe(
        target.stem,
        trained,
        optimizer,
        backbone,
        programs,
        data.labels,
        batch=chosen.batch,
        seqs=seqs,
        pair=data.pair,
        frozen_head=frozen_head,
    )
    progress("writing the artifact")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        folder = Path(scratch, target.name)
        folder.mkdir()
        _write_files(folder, backbone, programs)
        state = {name: tensor.numpy() for name, tensor in state_tensors(trained, optimizer).items()}
        params = {entry.name: state[entry.name] for entry in manifest.parameters}
        write_tensors(folder / "state.safetensors", params, {"format": "effine state"})
        write_tensors(folder / "golden.safetensors", recorded, golden.metadata(ties))
        write_artifact(folder, manifest)
        Artifact.open(folder)
        _move(folder, target, Path(scratch, "replaced"))
    return Artifact.open(target)


def prepare(settings: Settings, backbone: Backbone) -> Prepared:
    """Read and tokenize the data; without any, the sample sentences stand in for it."""
    tokenizer = Tokenizer(backbone.tokenizer)
    classes = settings.task == "classification"
    source: Source = samples.TRAIN if settings.data is None else settings.data
    if settings.data is None and (settings.labels is not None or not classes):
        examples = as_examples(samples.TRAIN, "classification", labelled=False)
        labels = read_labels(settings.labels) if settings.labels and classes else []
        targets = _stand_in_targets(len(examples), labels)
    else:
        examples = as_examples(source, settings.task)
        labels = _labels(settings, examples) if classes else []
        targets = (
            encode_labels(examples, labels)
            if classes
            else np.array([example.score for example in examples], np.float32)
        )
    tokens = tokenizer.encode(examples, backbone.max_length)
    pair = examples[0].text_b is not None
    return Prepared(
        labels, tokens, targets, pair, real=settings.data is not None or not settings.labels
    )


def _labels(settings: Settings, examples: Sequence[Example]) -> list[str]:
    labels = read_labels(settings.labels) if settings.labels else labels_of(examples)
    if len(labels) + settings.spare_labels < 2:
        raise ExportError(
            f"the data has one label only ({labels[0]}); give data with two, or --spare-labels"
        )
    return labels


def _stand_in_targets(count: int, labels: Sequence[str]) -> np.ndarray:
    """Skewed labels (or scores around 3) that a model can fit, for a golden run without data."""
    random = np.random.default_rng(0)
    if not labels:
        return random.normal(3.0, 0.5, count).astype(np.float32)
    return np.where(random.random(count) < 0.7, 0, random.integers(0, len(labels), count))


def _frozen_head(backbone: Backbone, task: Any, data: Prepared) -> FrozenHead | None:
    if not data.real or len(data.tokens) < 2 * FOLDS:
        return None
    score = frozen_head_score(backbone.encoder, task, data.tokens, data.targets, backbone.pad_id)
    from effine.runtime.metrics import main_metric

    return FrozenHead(score, main_metric(task.name), f"{FOLDS}-fold cross-validation at export")


def _check_target(out: Path, force: bool) -> Path:
    target = out.absolute()
    if target.exists() and not force:
        raise ExportError(f"{out}: exists already; choose another --out or pass --force")
    if target.exists() and not (target / "manifest.json").is_file():
        raise ExportError(f"{out}: is not an artifact; --force replaces artifacts only")
    if not target.parent.is_dir():
        raise ExportError(f"{out.parent}: no such directory; create it first")
    return target


def _write_files(folder: Path, backbone: Backbone, programs: Programs) -> None:
    for name, content in programs.files.items():
        (folder / name).write_bytes(content)
    backbone.tokenizer.save(str(folder / "tokenizer.json"))


def _move(folder: Path, target: Path, replaced: Path) -> None:
    """Put the finished folder in place; an old artifact stays until the new one can take over."""
    if target.exists():
        target.rename(replaced)
    try:
        folder.rename(target)
    except OSError:
        if replaced.exists():
            replaced.rename(target)
        raise
