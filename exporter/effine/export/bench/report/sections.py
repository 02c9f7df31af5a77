"""The page's sections: what each is called, what it shows, and what makes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from effine.export.bench.records import Record
from effine.export.bench.report import export, memory, papers, quality, size, speed
from effine.export.bench.report.plots import Plot


@dataclass(frozen=True)
class Section:
    """What becomes of the records of one kind.

    Args:
        about: what all of its tables show.
        body: the tables in Markdown.
        plots: what is drawn of the same records.
        by_machine: whether records of different machines stay apart.
    """

    title: str
    about: str
    body: Callable[[Sequence[Record]], str]
    plots: Callable[[Sequence[Record]], list[Plot]] = field(default=lambda records: [])
    by_machine: bool = True


SECTIONS = {
    "step": Section(
        "A training step",
        "Medians with quartiles; effine and its rivals take steps in turn. A ratio is effine's "
        "time over the rival's in the same round: below 1 is faster. Rivals compute in fp32; "
        "the backbone's pass counts unless its features are cached.",
        speed.step_body,
        speed.step_plots,
    ),
    "epoch": Section(
        "A whole epoch",
        "Against PyTorch eager that pads each batch to its longest text; tokenizing, loading "
        "the programs and filling the cache count in the first epoch.",
        speed.epoch_body,
    ),
    "shapes": Section(
        "Lengths: a method for each, or one for all",
        "A training step on one thread by the artifact, whose program has a method for each "
        "sequence length over the same weights, and by a program of the same step, optimizer "
        "included, for every length up to the longest; the passes that need lengths as numbers "
        "can't be applied to it. The process takes a step at every length.",
        speed.shapes_body,
    ),
    "scaling": Section(
        "How a step's time grows",
        "Least squares over a grid of batches B and lengths S; and over the number of layers above "
        "the cut, at the largest B and S, for the whole step and for the train program alone.",
        speed.scaling_body,
        speed.scaling_plots,
    ),
    "sdk": Section(
        "The Kotlin SDK over its programs",
        "On a desktop JVM over the same ExecuTorch release. Each update of a run, its features "
        "from the cache, is followed by its programs alone: the same calls of the runtime with "
        "the same buffers, without taking what they return. Bytes are what an update allocates "
        "on the heap, and what all of them together do in direct memory.",
        speed.sdk_body,
    ),
    "size": Section(
        "Size",
        "What ships with an app, without a phone's trained state and its cache.",
        size.size_body,
        size.size_plots,
    ),
    "memory": Section(
        "Memory",
        "Peak resident memory (VmHWM) of the whole native runner while it trains, with the "
        "manifest's prediction; and by how much PyTorch's peak exceeds its memory after its "
        "imports, with the runner's peak over it in brackets.",
        memory.memory_body,
    ),
    "tasks": Section(
        "Several tasks over one backbone",
        "The native runner predicts with a task of each method, one text at a time; programs of "
        "those before stay loaded. In brackets by how much that exceeds the first.",
        memory.tasks_body,
    ),
    "export": Section(
        "Export",
        "Each export in a fresh process. Programs are lowered side by side in forked processes, "
        "which share most of their memory with the first.",
        export.export_body,
    ),
    "run": Section(
        "Scores",
        "Means over seeds, scores in points of 100; eager is the same training in PyTorch, fp32. "
        "The standard error is that of the paired difference. Equal predictions: the least share "
        "of test examples, over the seeds, for which the programs and eager predict the same from "
        "the state trained on the programs.",
        quality.quality_body,
        by_machine=False,
    ),
    "paper": Section(
        "The papers' figures",
        "The papers' figures: (C) from the authors' code, abstract or tables, (S) from other "
        "sources. effine's are measured on its own programs. What is to be reached is the paper's "
        "figure, or a goal of effine's own where that is of something else. Cells with two values "
        "have effine's first and then what it is compared with. Accuracy in points of 100, mean "
        "over seeds; peak memory is that of the native runner while it trains, for PyTorch its "
        "growth over its imports. Bounds follow from multiplications and bytes, counted from "
        "shapes and layouts, at rates measured beside: products and copies in PyTorch, fp32.",
        papers.papers_body,
        papers.papers_plots,
    ),
    "grid": Section(
        "Recipes against a grid",
        "Scores on a held-out fifth of the training data, means over seeds: of each method's "
        "recipe for the task, and of the grid's best point.",
        quality.grid_body,
        by_machine=False,
    ),
}
