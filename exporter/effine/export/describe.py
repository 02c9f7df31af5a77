"""The manifest of an artifact, from what the pipeline made."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from importlib.metadata import version

from effine.export.backbones import Backbone
from effine.export.budget import Plan
from effine.export.model import Model
from effine.export.optimizers import Optimizer
from effine.export.phases import state_layout
from effine.export.programs import Programs
from effine.runtime import manifest_fields as fields
from effine.runtime.manifest import Manifest
from effine.runtime.phases import TRAIN, Phase
from effine.runtime.tasks import find_task


def describe(
    name: str,
    model: Model,
    optimizer: Optimizer,
    backbone: Backbone,
    programs: Programs,
    labels: Sequence[str],
    *,
    plan: Plan,
    seqs: Sequence[int],
    pair: bool,
    frozen_head: fields.FrozenHead | None,
    tolerances: fields.Tolerances,
) -> Manifest:
    """The manifest without the list of files, which is added when they are written."""
    method, encoder, task = model.method, model.encoder, model.task
    recipe = task.recipe(method.recipe)
    return Manifest.describe(
        effine=version("effine"),
        target=programs.target,
        torch=version("torch").split("+")[0],
        name=name,
        method=fields.MethodInfo(
            method.name, dataclasses.asdict(method.options), method.first_layer, method.layers_below
        ),
        backbone=fields.BackboneInfo(
            backbone.name,
            encoder.architecture,
            encoder.depth,
            encoder.hidden,
            encoder.pooling,
            plan.precision,
            backbone.sha256,
        ),
        task=fields.TaskInfo(
            task.name, tuple(labels), task.spare, find_task(task.name).metrics[0], pair
        ),
        tokens=fields.TokensInfo(encoder.token_inputs, backbone.pad_id, max(seqs)),
        optimizer=fields.OptimizerInfo(
            optimizer.name,
            optimizer.weight_decay,
            optimizer.clip_norm,
            optimizer.moments,
            optimizer.first_gradient_factor(),
        ),
        recipe=fields.Recipe(
            recipe.piece_rate,
            recipe.head_rate,
            recipe.epochs,
            recipe.schedule,
            recipe.warmup,
            plan.accumulate,
        ),
        shapes=fields.Shapes(plan.batch, tuple(seqs)),
        programs=programs.programs,
        state=state_layout(model, optimizer),
        phases=_phases(model),
        transitions=model.method.transitions(model.encoder),
        tolerances=tolerances,
        memory=programs.memory,
        frozen_head=frozen_head,
    )


def _phases(model: Model) -> dict[str, Phase]:
    """The phases, for methods that have their own."""
    found = {}
    for phase in model.phases if model.phases != (TRAIN,) else ():
        model.enter(phase)
        found[phase] = Phase(model.method.layers_below)
    model.enter(model.phases[0])
    return found
