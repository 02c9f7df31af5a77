"""A task's loss as it is captured, beside PyTorch's."""

from __future__ import annotations

import torch

from effine.export.capture import capture
from effine.export.lowering.passes import run_passes
from effine.export.tasks import Task


def assert_captured_loss_is_pytorchs(
    task: Task, logits: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compare losses and gradients; returns those of the captured graph."""

    def function(inputs: dict[str, torch.Tensor], _: dict[str, torch.Tensor]) -> dict:
        leaf = inputs["logits"].detach().requires_grad_()
        loss = task.loss(leaf, inputs["labels"])
        return {"loss": loss, "gradient": torch.autograd.grad(loss.sum(), leaf)[0]}

    captured = capture(function, {"logits": logits, "labels": labels}, {})
    run_passes(captured.graph)
    loss, gradient = captured.graph(logits, labels)
    leaf = logits.clone().requires_grad_()
    expected = task.reference_loss(leaf, labels)
    expected.sum().backward()
    assert torch.allclose(loss, expected, rtol=1e-5)
    assert torch.allclose(gradient, leaf.grad, rtol=1e-5, atol=1e-7)
    return loss, gradient
