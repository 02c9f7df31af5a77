"""The golden run: what training must do, recorded by PyTorch autograd and torch.optim.

It is independent of capture and lowering, starts from a perturbed state (behind
zero-initialised outputs gradients vanish and a test would be empty), and covers every
shape, a short batch and unequal weights. A method with phases goes through all of them and
back to the first. Every engine replays it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from effine.export.capture import MASK
from effine.export.errors import NoProgressError
from effine.export.model import GROUPS, Model, group_of
from effine.export.optimizers import Optimizer
from effine.export.precision import FP32, Precision, emulated
from effine.export.route import Route, turns
from effine.export.tolerances import tolerances
from effine.runtime.labels import batch_labels
from effine.runtime.manifest_fields import Tolerances
from effine.runtime.replay import phase_prefix, within
from effine.runtime.tokenize import Tokens, pad

STEPS = 20
SAMPLED_ABOVE = 262_144
SAMPLES = 256
TIE = 1e-5
DECAY_RATE = 0.1
_PERTURBATION = 0.02
_SHORT_BATCH = 1
_POOL = 2
_DISTURBED = 3
_RATE_FACTORS = (1.0, 3.0, 10.0, 30.0)
_FELL_BY = 0.95

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class GoldenData:
    """What the golden run trains on.

    Args:
        tokens: tokenized examples.
        labels: [N, ...] in the form that the task takes; those of tokens for the longest
            sequence.
        batch: rows of a batch.
        seqs: sequence lengths, taken in turns.
        pad_id: id of the padding token.
    """

    tokens: Sequence[Tokens]
    labels: np.ndarray
    batch: int
    seqs: Sequence[int]
    pad_id: int


def record(
    model: Model,
    optimizer: Optimizer,
    data: GoldenData,
    precision: Precision = FP32,
    seed: int = 0,
) -> Recorded:
    """Record the golden run; the model's parameters are restored afterwards.

    The loss must fall within the run, so where the recipe's rates are too small for that
    (tiny random backbones) they are raised.

    Args:
        precision: of the frozen weights; PyTorch emulates it.

    Raises:
        NoProgressError: the loss doesn't fall at any rate.
    """
    with _restored(model):
        _perturb(model, seed)
        start = {name: p.detach().clone() for name, p in model.learned().items()}
        batches, expected, ties = _learning_run(model, optimizer, data, start, precision, seed)
        arrays = {f"batch.{i}.{name}": a for i, b in enumerate(batches) for name, a in b.items()}
        arrays |= {f"start.{name}": tensor.numpy() for name, tensor in start.items()}
        arrays |= sampled(expected, np.random.default_rng(seed))
        arrays["decay_rate"] = np.array([DECAY_RATE], np.float32)
        disturbed = []
        if precision.quantised:
            _load(model, start)
            outputs = _outputs(*_forward(model, batches[0]))
            arrays |= {f"fp32.{name}": array for name, array in outputs.items()}
            disturbed = _disturbed_runs(model, optimizer, batches, start, precision)
    metadata = {"format": "effine golden", "steps": str(STEPS), "ties": str(ties)}
    if turns(model, STEPS):
        metadata["phases"] = json.dumps(turns(model, STEPS))
    return Recorded(arrays, metadata, tolerances(precision.name, arrays, disturbed))


@dataclass(frozen=True)
class Recorded:
    """The content of golden.safetensors, and the limits within which engines must agree."""

    arrays: Arrays
    metadata: dict[str, str]
    tolerances: Tolerances


def _learning_run(
    model: Model,
    optimizer: Optimizer,
    data: GoldenData,
    start: dict[str, Tensor],
    precision: Precision,
    seed: int,
) -> tuple[list[Arrays], Arrays, int]:
    """The first run whose loss falls: its batches, its results, and the ties met.

    The last steps are compared with the first, over as many as take every example once.
    """
    for factor in _RATE_FACTORS:
        batches = _batches(model, data, factor, seed)
        _load(model, start)
        with _count_ties(model) as ties, emulated(model, precision):
            expected = _train(model, optimizer, batches)
        loss, steps = expected["loss"], _POOL * len(data.seqs)
        if loss[-steps:].mean() < _FELL_BY * loss[:steps].mean():
            return batches, expected | _decay_step(model, optimizer, start), ties[0]
    raise NoProgressError("the loss doesn't fall in PyTorch either: check the labels of --data")


def _disturbed_runs(
    model: Model,
    optimizer: Optimizer,
    batches: list[Arrays],
    start: dict[str, Tensor],
    precision: Precision,
) -> list[Arrays]:
    runs = []
    for jitter in range(_DISTURBED):
        _load(model, start)
        with emulated(model, precision, jitter):
            runs.append(_train(model, optimizer, batches))
    return runs


def _batches(model: Model, data: GoldenData, factor: float, seed: int) -> list[Arrays]:
    random = np.random.default_rng(seed)
    recipe = model.method.recipe
    rates = {"pieces": recipe.piece_rate * factor, "head": recipe.head_rate * factor}
    pools = {seq: itertools.cycle(_pool(random, data, seq)) for seq in data.seqs}
    return [
        _batch(random, data, step, seq, pools[seq], model) | _scheduled(rates, step)
        for step, seq in zip(range(STEPS), itertools.cycle(data.seqs), strict=False)
    ]


def _pool(random: np.random.Generator, data: GoldenData, seq: int) -> np.ndarray:
    """A few examples that fit: a model can fit them within the run, so the loss falls."""
    fitting = [i for i, tokens in enumerate(data.tokens) if len(tokens.ids) <= seq]
    return random.permutation(fitting or len(data.tokens))[: _POOL * data.batch]


def _batch(
    random: np.random.Generator,
    data: GoldenData,
    step: int,
    seq: int,
    pool: Iterator[int],
    model: Model,
) -> Arrays:
    count = max(1, data.batch - 3) if step == _SHORT_BATCH else data.batch
    chosen = list(itertools.islice(pool, count))
    tokens = [Tokens(data.tokens[i].ids[:seq], data.tokens[i].type_ids[:seq]) for i in chosen]
    shape = model.task.label_shape(seq)
    labels = np.zeros((data.batch, *shape), data.labels.dtype)
    labels[:count] = batch_labels(data.labels, chosen, shape)
    weights = np.zeros(data.batch, np.float32)
    weights[:count] = random.uniform(0.5, 2.0, count)
    return {
        **pad(tokens, data.batch, seq, data.pad_id, model.encoder.token_inputs),
        "labels": labels,
        "example_weight": weights,
        "weight_sum": weights.sum(keepdims=True),
    }


def _scheduled(rates: dict[str, float], step: int) -> Arrays:
    decay = 1.0 - step / (2 * STEPS)
    return {
        f"learning_rate.{group}": np.array([rates[group] * decay], np.float32) for group in GROUPS
    }


def _train(model: Model, optimizer: Optimizer, batches: list[Arrays]) -> Arrays:
    route = Route(model, STEPS)
    torch_optimizer = _torch_optimizer(model, optimizer)
    expected = route.indices()
    losses = []
    for step, arrays in enumerate(batches):
        if route.restarts(step):
            torch_optimizer = _torch_optimizer(model, optimizer)
        inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
        features, logits = _forward(model, arrays)
        each = model.task.reference_loss(logits, inputs["labels"])
        each = model.penalised(each, inputs[MASK], inputs["example_weight"])
        loss = (each * inputs["example_weight"]).sum() / inputs["weight_sum"][0]
        torch_optimizer.zero_grad()
        loss.backward()
        route.sums.before_step()
        if optimizer.clip_norm:
            nn.utils.clip_grad_norm_(model.trainable().values(), optimizer.clip_norm)
        if step == route.begins[model.phase]:
            found = _outputs(features, logits)
            found |= {f"gradient.{n}": _gradient(p) for n, p in model.trainable().items()}
            prefix = phase_prefix(model.phase, model.phases[0])
            expected |= {prefix + key: array for key, array in found.items()}
        _set_rates(torch_optimizer, {g: float(inputs[f"learning_rate.{g}"]) for g in GROUPS})
        torch_optimizer.step()
        _project(model)
        route.sums.after_step()
        losses.append(loss.item())
    expected["loss"] = np.array(losses, np.float32)
    expected |= {f"statistic.{name}": total.numpy() for name, total in route.sums.totals.items()}
    return expected | {f"end.{n}": p.detach().numpy().copy() for n, p in model.learned().items()}


@torch.no_grad()
def _project(model: Model) -> None:
    for name, parameter in model.trainable().items():
        span = model.method.bounds(name)
        if span is not None:
            parameter.clamp_(*span)


def _forward(model: Model, arrays: Arrays) -> tuple[dict[str, Tensor], Tensor]:
    tokens = {name: torch.from_numpy(arrays[name]) for name in model.encoder.token_inputs}
    features = model.features(tokens)
    return features, model(features, torch.from_numpy(arrays[MASK]))


def _outputs(features: dict[str, Tensor], logits: Tensor) -> Arrays:
    named = {f"features.{name}": tensor for name, tensor in features.items()} | {"logits": logits}
    return {name: tensor.detach().numpy() for name, tensor in named.items()}


def _decay_step(model: Model, optimizer: Optimizer, start: dict[str, Tensor]) -> Arrays:
    """One update without any gradient: only the decoupled decay is left."""
    _load(model, start)
    torch_optimizer = _torch_optimizer(model, optimizer)
    for parameter in model.trainable().values():
        parameter.grad = torch.zeros_like(parameter)
    _set_rates(torch_optimizer, dict.fromkeys(GROUPS, DECAY_RATE))
    torch_optimizer.step()
    return {f"decay.{n}": p.detach().numpy().copy() for n, p in model.trainable().items()}


def _torch_optimizer(model: Model, optimizer: Optimizer) -> torch.optim.Optimizer:
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.trainable().items():
        groups.setdefault((group_of(name), parameter.dim() > 1), []).append(parameter)
    return optimizer.reference(
        [
            {"params": params, "group": group, "weight_decay": optimizer.weight_decay * decays}
            for (group, decays), params in groups.items()
        ]
    )


def _set_rates(torch_optimizer: torch.optim.Optimizer, rates: dict[str, float]) -> None:
    for group in torch_optimizer.param_groups:
        group["lr"] = rates[group["group"]]


def _gradient(parameter: nn.Parameter) -> np.ndarray:
    grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    return grad.detach().numpy().copy()


def sampled(
    expected: Arrays,
    random: np.random.Generator,
    above: int = SAMPLED_ABOVE,
    samples: int = SAMPLES,
) -> Arrays:
    """Keep a few entries and the norm of each large tensor instead of the whole.

    Args:
        above: a tensor is large if it has more elements.
        samples: how many entries are kept.
    """
    result: Arrays = {}
    for phase in dict.fromkeys(key.split(".")[1] for key in expected if key.startswith("at.")):
        inside = sampled(within(expected, phase), random, above, samples)
        result |= {f"at.{phase}.{key}": array for key, array in inside.items()}
    for key, array in expected.items():
        kind, _, name = key.partition(".")
        if kind == "at":
            continue
        if kind not in ("gradient", "end", "decay", "statistic") or array.size <= above:
            result[key] = array
            continue
        drawn = random.choice(array.size, samples, replace=False)
        indices = result.setdefault(f"sample.{name}", np.sort(drawn).astype(np.int64))
        result[key] = array.reshape(-1)[indices]
        if kind != "decay":
            result[f"norm.{key}"] = np.array([np.linalg.norm(array)], np.float32)
    return result


def _perturb(model: Model, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.learned().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * _PERTURBATION)


def _load(model: Model, values: dict[str, Tensor]) -> None:
    model.enter(model.phases[0])
    with torch.no_grad():
        for name, parameter in model.learned().items():
            parameter.copy_(values[name])


@contextmanager
def _restored(model: Model) -> Iterator[None]:
    before = {name: p.detach().clone() for name, p in model.learned().items()}
    try:
        yield
    finally:
        _load(model, before)
        for parameter in model.trainable().values():
            parameter.grad = None


@contextmanager
def _count_ties(model: Model) -> Iterator[list[int]]:
    """Count decisions of modules with a `tie_margin(...)` that are closer than 1e-5 to a tie."""
    ties = [0]

    @torch.no_grad()
    def count(module: Any, args: tuple[Any, ...]) -> None:
        ties[0] += int((module.tie_margin(*args) < TIE).sum())

    deciding = [m for m in model.modules() if hasattr(m, "tie_margin")]
    hooks = [module.register_forward_pre_hook(count) for module in deciding]
    try:
        yield ties
    finally:
        for hook in hooks:
            hook.remove()
