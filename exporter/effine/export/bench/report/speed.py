"""The page's sections on time: steps, epochs, and how a step's time grows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from effine.export.bench.records import Record
from effine.export.bench.report.plots import Plot
from effine.export.bench.report.text import megabytes, newest, spread_cell, subject, table, threads

EPOCH = ("model", "data", "examples", "method", "precision", "batch", "threads")
SHAPES = ("model", "method", "batch")
SDK = ("model", "method", "precision", "batch", "seq", "threads")
SCALING = ("model", "method", "precision", "threads")


def step_contests(records: Sequence[Record]) -> Iterator[tuple[Record, str]]:
    """Each setting with each rival that was tried, as the newest record that has both."""
    contests: dict[tuple[str, str], Record] = {}
    for record in records:
        for rival in record["rivals"]:
            contests[step_name(record), rival] = record
    for (_, rival), record in contests.items():
        yield record, rival


def step_name(record: Record) -> str:
    """The setting of a step in words."""
    first = f", from layer {record['first_layer']}" if record["first_layer"] else ""
    return (
        f"{subject(record)}{first}, {record['pooling']}, B={record['batch']} S={record['seq']}, "
        f"{threads(record['threads'])}"
    )


def step_body(records: Sequence[Record]) -> str:
    """effine's milliseconds beside each rival's."""
    rows, summaries = [], {}
    for record, rival in step_contests(records):
        summaries[rival] = record["rivals"][rival]["summary"]
        own = [step_name(record), spread_cell(record["ms"]["step"], ".1f"), rival]
        if rival in record["unavailable"]:
            rows.append([*own, f"not measured: {record['unavailable'][rival]}", "", ""])
            continue
        ratios = record["ratios"][rival]
        theirs = spread_cell(record["ms"][rival], ".1f")
        ratio, train = (spread_cell(ratios[name], ".3f") for name in ("step", "train"))
        rows.append([*own, theirs, ratio, train])
    header = ["step", "effine ms", "rival", "rival ms", "ratio", "ratio, features cached"]
    legend = "\n".join(f"- `{rival}`: {what}" for rival, what in summaries.items())
    return f"{legend}\n\n{table(header, rows)}"


def step_plots(records: Sequence[Record]) -> list[Plot]:
    """Ratios as bars."""
    series: dict[str, list[tuple[Any, float]]] = {}
    for record, rival in step_contests(records):
        if rival in record["ratios"]:
            ratio = record["ratios"][rival]["step"]["median"]
            series.setdefault(f"against {rival}", []).append((step_name(record), ratio))
    if not series:
        return []
    return [Plot("step", "bars", "A step's time over the rival's", "", "ratio", series)]


def epoch_body(records: Sequence[Record]) -> str:
    """Seconds of first and later epochs."""
    rows = []
    for record in newest(records, lambda r: tuple(r[name] for name in EPOCH)):
        later = record["later_ratio"]
        rows.append(
            [
                f"{record['data']}, {record['examples']} examples",
                f"{subject(record)}, {threads(record['threads'])}",
                " ".join(f"{seconds:.1f}" for seconds in record["effine_s"]),
                " ".join(f"{seconds:.1f}" for seconds in record["eager_s"]),
                f"{record['first_ratio']:.3f}",
                "-" if later is None else f"{later:.3f}",
            ]
        )
    header = ["data", "trained", "effine s", "eager s", "ratio, first epoch", "later"]
    return table(header, rows)


def shapes_rows(records: Sequence[Record]) -> list[list[str]]:
    """For each length, the step of its own method and that of the program for all lengths."""
    rows = []
    for record in newest(records, lambda r: tuple(r[name] for name in SHAPES)):
        name = f"{record['model']} {record['method']} fp32, B={record['batch']}"
        for length in record["lengths"]:
            times = [spread_cell(length["ms"][side], ".1f") for side in ("each", "one")]
            ratio = spread_cell(length["ratio"], ".3f")
            rows.append([f"{name} S={length['seq']}, ms", *times, ratio])
        each, one = (record["growth"][side] for side in ("each", "one"))
        growth = [megabytes(each), megabytes(one), f"{each / one:.3f}"]
        rows.append([f"{name}, growth of a process", *growth])
    return rows


def shapes_body(records: Sequence[Record]) -> str:
    """Time and memory of one method for each length beside one dynamic program."""
    header = ["step", "a method for each length", "one dynamic program", "ratio"]
    return table(header, shapes_rows(records))


def sdk_body(records: Sequence[Record]) -> str:
    """What the Kotlin SDK adds to the time of its programs."""
    rows = []
    for record in newest(records, lambda r: tuple(r[name] for name in SDK)):
        rows.append(
            [
                f"{subject(record)}, B={record['batch']} S={record['seq']}, "
                f"{threads(record['threads'])}",
                *(spread_cell(record["ms"][side], ".2f") for side in ("step", "bare")),
                spread_cell(record["ratio"], ".4f"),
                f"{record['ratio']['of_medians']:.4f}",
                f"{record['heap']:,}",
                f"{record['direct']:,}",
            ]
        )
    header = ["update", "in Kotlin, ms", "its programs, ms", "ratio", "of medians"]
    header += ["bytes on the heap", "in direct memory"]
    return table(header, rows)


def scaling_body(records: Sequence[Record]) -> str:
    """Coefficients of both fits."""
    sizes, layers = [], []
    for record in newest(records, lambda r: tuple(r[name] for name in SCALING)):
        name = f"{subject(record)}, {threads(record['threads'])}"
        sizes.append([name, *(f"{record['fit'][key]:.4g}" for key in "abc"), _r2(record["fit"])])
        for part, line in record["lines"].items():
            layers.append([name, part, f"{line['a']:.4g}", f"{line['b']:.4g}", _r2(line)])
    return (
        "A step's milliseconds as a + b B S + c B S²:\n\n"
        f"{table(['trained', 'a', 'b', 'c', 'R²'], sizes)}\n\n"
        "and as a + b times the number of layers above the cut:\n\n"
        f"{table(['trained', 'part', 'a', 'b', 'R²'], layers)}"
    )


def scaling_plots(records: Sequence[Record]) -> list[Plot]:
    """Measured time against the model's, and against the layers above the cut."""
    against: dict[str, list[tuple[Any, float]]] = {}
    above: dict[str, list[tuple[Any, float]]] = {}
    for record in newest(records, lambda r: tuple(r[name] for name in SCALING)):
        name, fit = f"{subject(record)}, {threads(record['threads'])}", record["fit"]
        for point in record["points"]:
            tokens = point["batch"] * point["seq"]
            model = fit["a"] + fit["b"] * tokens + fit["c"] * tokens * point["seq"]
            against.setdefault(name, []).append((model, point["ms"]))
        for layer in record["layers"]:
            for part in ("step", "train"):
                point = (layer["above"], layer[f"{part}_ms"])
                above.setdefault(f"{name}: {part}", []).append(point)
    return [
        Plot(
            "scaling",
            "diagonal",
            "A step's time against the fit",
            "a + b B S + c B S² (ms)",
            "measured (ms)",
            against,
        ),
        Plot(
            "layers",
            "lines",
            "Time by layers above the cut",
            "layers above the cut",
            "ms",
            above,
        ),
    ]


def _r2(fit: Record) -> str:
    return f"{fit['r2']:.4f}"
