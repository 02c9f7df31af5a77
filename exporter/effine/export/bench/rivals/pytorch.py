"""PyTorch as a rival: eager, eager with every weight trained, and torch.compile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from effine.export.bench.rivals.case import Case, Rival, Turn, foreign, timed
from effine.export.bench.rivals.network import RivalNetwork, descend, torch_optimizer

Loss = Callable[[dict[str, Tensor], Tensor], Tensor]


@contextmanager
def _eager(case: Case) -> Iterator[Turn]:
    network = case.network()
    yield timed(_step(case, network, network.loss))


@contextmanager
def _full(case: Case) -> Iterator[Turn]:
    network = case.full_network()
    yield timed(_step(case, network, network.loss))


@contextmanager
def _compile(case: Case) -> Iterator[Turn]:
    network = case.network()
    torch.compiler.reset()
    step = _step(case, network, torch.compile(network.loss))
    with foreign("torch.compile"), torch._inductor.config.patch(force_disable_caches=True):
        step()
        step()
    yield timed(step)


def _step(case: Case, network: RivalNetwork, loss: Loss) -> Callable[[], None]:
    manifest = case.artifact.manifest
    tokens, labels = case.batch.tensors()
    optimizer = torch_optimizer(network.named_parameters(), manifest, fused=True)
    recipe, clip_norm = manifest.recipe, manifest.optimizer.clip_norm
    rates = {"pieces": recipe.piece_rate, "head": recipe.head_rate}

    def step() -> None:
        descend(optimizer, loss(tokens, labels), rates, clip_norm)

    return step


EAGER = Rival("eager", "PyTorch eager, sdpa attention", "method", _eager)
FULL = Rival("full", "PyTorch eager, sdpa attention, full tuning", "all", _full)
COMPILE = Rival("compile", "PyTorch, forward and backward by torch.compile", "method", _compile)
