"""Optimizers against torch.optim, step by step."""

from __future__ import annotations

import pytest
import torch

from effine.export.errors import ExportError
from effine.export.optimizers import SGD, AdamW, Optimizer, make_optimizer


def ours(optimizer: Optimizer, start, grads_by_step, rates) -> dict[str, torch.Tensor]:
    params = {name: tensor.clone() for name, tensor in start.items()}
    moments = {m: {n: torch.zeros_like(t) for n, t in start.items()} for m in optimizer.moments}
    for step, grads in enumerate(grads_by_step, 1):
        named = {name: torch.tensor([rate]) for name, rate in rates.items()}
        count = torch.tensor([float(step)])
        params, moments = optimizer.step(params, grads, moments, named, count)
    return params


def theirs(reference, params, grads_by_step, clip) -> None:
    for grads in grads_by_step:
        for name, parameter in params.items():
            parameter.grad = grads[name].clone()
        if clip:
            torch.nn.utils.clip_grad_norm_(params.values(), clip)
        reference.step()


def problem():
    torch.manual_seed(0)
    start = {"w": torch.randn(4, 3), "k": torch.randn(2, 3, 4), "b": torch.randn(4)}
    grads = [{n: torch.randn_like(t) * 3 for n, t in start.items()} for _ in range(25)]
    return start, grads, {"w": 1e-2, "k": 3e-2, "b": 1e-2}


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_adamw_equals_torch(clip: float) -> None:
    start, grads, rates = problem()
    params = {name: torch.nn.Parameter(tensor.clone()) for name, tensor in start.items()}
    reference = torch.optim.AdamW(
        [
            {"params": [params[n]], "lr": rates[n], "weight_decay": 0.1 if n != "b" else 0.0}
            for n in params
        ]
    )
    theirs(reference, params, grads, clip)
    result = ours(AdamW(weight_decay=0.1, clip_norm=clip), start, grads, rates)
    for name, parameter in params.items():
        assert torch.allclose(result[name], parameter, rtol=1e-5, atol=1e-6)


def test_sgd_equals_torch_without_decay() -> None:
    start, grads, rates = problem()
    params = {name: torch.nn.Parameter(tensor.clone()) for name, tensor in start.items()}
    groups = [{"params": [params[n]], "lr": rates[n]} for n in params]
    theirs(torch.optim.SGD(groups, momentum=0.9, lr=0.0), params, grads, 0.0)
    result = ours(SGD(weight_decay=0.0), start, grads, rates)
    for name, parameter in params.items():
        assert torch.allclose(result[name], parameter, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [AdamW, SGD])
def test_without_gradients_only_matrices_decay(kind: type[Optimizer]) -> None:
    start, _, rates = problem()
    still = [{name: torch.zeros_like(tensor) for name, tensor in start.items()}]
    result = ours(kind(weight_decay=0.1), start, still, rates)
    assert torch.equal(result["b"], start["b"])
    assert torch.allclose(result["w"], start["w"] * (1 - 1e-2 * 0.1))
    assert torch.allclose(result["k"], start["k"] * (1 - 3e-2 * 0.1))


def test_the_first_moment_gives_the_gradient_back() -> None:
    start, grads, rates = problem()
    for optimizer in (AdamW(), SGD()):
        moments = {m: {n: torch.zeros_like(t) for n, t in start.items()} for m in optimizer.moments}
        named = {name: torch.tensor([rate]) for name, rate in rates.items()}
        _, after = optimizer.step(start, grads[0], moments, named, torch.ones(1))
        first = after[optimizer.moments[0]]["w"] * optimizer.first_gradient_factor()
        assert torch.allclose(first, grads[0]["w"], rtol=1e-5)


def test_wrong_settings_are_explained() -> None:
    with pytest.raises(ExportError, match="choose from adamw, sgd"):
        make_optimizer("lion", 0.0, 0.0)
    with pytest.raises(ExportError, match="can't be negative"):
        make_optimizer("adamw", -1.0, 0.0)
