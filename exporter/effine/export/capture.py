"""Capture: a pure function over named tensors becomes one flat ATen graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call, grad_and_value
from torch.fx.experimental.proxy_tensor import make_fx

from effine.export.lowering.decompositions import decompositions
from effine.export.model import Model, group_of
from effine.export.optimizers import Optimizer
from effine.runtime.phases import statistic_name

Tensors = dict[str, Tensor]
Pure = Callable[[Tensors, Tensors], Tensors]
MASK = "attention_mask"


@dataclass(frozen=True)
class Captured:
    """A graph whose placeholders are `inputs` in order and whose outputs are `outputs`.

    Frozen tensors are attributes of the graph module, under their own names with
    dots replaced.

    Args:
        recompute: whether the lowered program computes results again where that saves memory.
    """

    graph: fx.GraphModule
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    recompute: bool = False


def capture(function: Pure, inputs: Tensors, frozen: Tensors) -> Captured:
    """Trace function(inputs, frozen) into one graph of core ATen operators.

    Inputs that the function doesn't read are dropped from the signature.
    """
    names, constants = list(inputs), list(frozen)
    output_names: list[str] = []

    def flat(*tensors: Tensor) -> list[Tensor]:
        split = len(names)
        outputs = function(
            dict(zip(names, tensors[:split], strict=True)),
            dict(zip(constants, tensors[split:], strict=True)),
        )
        output_names[:] = outputs
        return list(outputs.values())

    values = [tensor.detach() for tensor in (*inputs.values(), *frozen.values())]
    graph = make_fx(flat, decomposition_table=decompositions(), tracing_mode="fake")(*values)
    placeholders = [node for node in graph.graph.nodes if node.op == "placeholder"]
    used = {}
    for node, name in zip(placeholders, [*names, *constants], strict=True):
        if name in frozen:
            _make_constant(graph, node, name, frozen[name])
        elif node.users:
            used[name] = inputs[name]
        else:
            graph.graph.erase_node(node)
    graph.recompile()
    output = next(iter(reversed(graph.graph.nodes)))
    shapes = {
        name: torch.empty(node.meta["val"].shape, dtype=node.meta["val"].dtype)
        for name, node in zip(output_names, output.args[0], strict=True)
    }
    return Captured(graph, used, shapes)


def backbone_function(model: Model) -> Pure:
    """Token inputs, parameters -> features."""

    def function(inputs: Tensors, frozen: Tensors) -> Tensors:
        tokens = {name: inputs[name] for name in model.encoder.token_inputs}
        return _call(model, "features", frozen | _learned(model, inputs), tokens)

    return function


def predict_function(model: Model, features: list[str]) -> Pure:
    """Features, mask, parameters -> logits."""

    def function(inputs: Tensors, frozen: Tensors) -> Tensors:
        chosen = {name: inputs[name] for name in features}
        tensors = frozen | _learned(model, inputs)
        return {"logits": _call(model, "forward", tensors, chosen, inputs[MASK])}

    return function


def train_function(model: Model, features: list[str], optimizer: Optimizer) -> Pure:
    """Features, mask, labels, weights, rates, step, state -> loss, logits, state'."""

    def function(inputs: Tensors, frozen: Tensors) -> Tensors:
        loss, logits, grads = _gradients(model, features, inputs, frozen)
        updated = _updated(model, optimizer, inputs, grads)
        sums = _watched(model, inputs, grads, updated)
        return {"loss": loss, "logits": logits, **updated, **sums}

    return function


def accumulate_function(model: Model, features: list[str]) -> Pure:
    """Features, mask, labels, weights, parameters, gradient sums -> loss, gradient sums'."""

    def function(inputs: Tensors, frozen: Tensors) -> Tensors:
        loss, _, grads = _gradients(model, features, inputs, frozen)
        sums = {gradient_name(name): inputs[gradient_name(name)] + g for name, g in grads.items()}
        return {"loss": loss, **sums}

    return function


def apply_function(model: Model, optimizer: Optimizer) -> Pure:
    """Gradient sums, rates, step, state -> state'."""

    def function(inputs: Tensors, frozen: Tensors) -> Tensors:
        grads = {name: inputs[gradient_name(name)] for name in model.trainable()}
        updated = _updated(model, optimizer, inputs, grads)
        return updated | _watched(model, inputs, grads, updated)

    return function


def _gradients(
    model: Model, features: list[str], inputs: Tensors, frozen: Tensors
) -> tuple[Tensor, Tensor, Tensors]:
    chosen = {name: inputs[name] for name in features}
    constants = frozen | _learned(model, inputs)

    def loss_and_logits(params: Tensors) -> tuple[Tensor, Tensor]:
        tensors = constants | params
        logits = _call(model, "forward", tensors, chosen, inputs[MASK])
        losses = model.task.loss(logits, inputs["labels"])
        weights = inputs["example_weight"]
        losses = _call(model, "penalised", tensors, losses, inputs[MASK], weights)
        return (losses * weights).sum() / inputs["weight_sum"].sum(), logits

    params = {name: inputs[name] for name in model.trainable()}
    grads, (loss, logits) = grad_and_value(loss_and_logits, has_aux=True)(params)
    return loss.view(1), logits, grads


def _updated(model: Model, optimizer: Optimizer, inputs: Tensors, grads: Tensors) -> Tensors:
    names = list(model.trainable())
    moments = {
        moment: {name: inputs[moment_name(name, moment)] for name in names}
        for moment in optimizer.moments
    }
    rates = {name: inputs[f"learning_rate.{group_of(name)}"] for name in names}
    params = {name: inputs[name] for name in names}
    params, moments = optimizer.step(params, grads, moments, rates, inputs["step"])
    bounded = {name: model.method.bounds(name) for name in names}
    params |= {name: params[name].clamp(*span) for name, span in bounded.items() if span}
    return params | {
        moment_name(name, moment): tensor
        for moment, tensors in moments.items()
        for name, tensor in tensors.items()
    }


def _learned(model: Model, inputs: Tensors) -> Tensors:
    return {name: inputs[name] for name in model.learned()}


def _watched(model: Model, inputs: Tensors, grads: Tensors, updated: Tensors) -> Tensors:
    """The sums that a policy wants, of changes or of gradients, which no clipping has changed."""
    changes = model.method.adds_up == "changes"
    sums = {}
    for name in model.watched():
        added = updated[name] - inputs[name] if changes else grads[name]
        sums[statistic_name(name)] = inputs[statistic_name(name)] + added
    return sums


def gradient_name(parameter: str) -> str:
    """The name of a parameter's gradient sum."""
    return f"{parameter}.grad"


def moment_name(parameter: str, moment: str) -> str:
    """The state's name of an optimizer moment."""
    return f"{parameter}.{moment}"


def attribute(name: str) -> str:
    """The name under which a frozen tensor is an attribute of a captured graph."""
    return name.replace(".", "_")


class _Bound(nn.Module):
    """Lets functional_call reach a method of the model other than forward."""

    def __init__(self, model: Model, name: str) -> None:
        super().__init__()
        self.model = model
        self.name = name

    def forward(self, *args: Any) -> Any:
        return getattr(self.model, self.name)(*args)


def _call(model: Model, name: str, tensors: Tensors, *args: Any) -> Any:
    """Call with other tensors; blocks that share weights are one module, which needs no tying."""
    prefixed = {f"model.{key}": value for key, value in tensors.items()}
    return functional_call(_Bound(model, name), prefixed, args, tie_weights=False)


def _make_constant(graph: fx.GraphModule, node: fx.Node, name: str, value: Tensor) -> None:
    if node.users:
        graph.register_buffer(attribute(name), value.detach())
        with graph.graph.inserting_before(node):
            constant = graph.graph.get_attr(attribute(name))
        constant.meta = dict(node.meta)
        node.replace_all_uses_with(constant)
    graph.graph.erase_node(node)
