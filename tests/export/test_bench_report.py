"""`effine bench report`: the page and its plots from small records."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import pytest

from commands import good, refused, run
from effine.export.bench import records
from effine.export.bench.records import machine, read_records, stamped

SPREAD = {"lower": 0.9, "upper": 1.1, "min": 0.8, "max": 1.2}
MACHINE = {
    "cpu": "Slow 3000",
    "cores": 2,
    "system": "Linux x86_64",
    "python": "3.11",
    "versions": {"torch": "2"},
}


def record(kind: str, **result: Any) -> dict[str, Any]:
    about = {"command": f"effine bench {kind}", "machine": MACHINE, "date": "2026-01-02T03:04:05"}
    setting = {"model": "tiny", "method": "adapter", "precision": "int8", "threads": 2}
    return {"kind": kind, **about, "load": [0.5, 0.75], **setting, **result}


def values(median: float) -> dict[str, float]:
    return {"median": median, "of_medians": median, **SPREAD}


def step(seq: int, own: float, **rivals: float | str) -> dict[str, Any]:
    measured = {name: ms for name, ms in rivals.items() if not isinstance(ms, str)}
    ratios = {
        name: {part: values(own / ms) for part in ("step", "train")}
        for name, ms in measured.items()
    }
    return record(
        "step",
        pooling="mean",
        first_layer=None,
        batch=8,
        seq=seq,
        steps=3,
        rivals={
            name: {"summary": f"rival {name}", "trains": "all" if name == "full" else "method"}
            for name in rivals
        },
        ms={name: values(ms) for name, ms in {"step": own, "train": own / 2, **measured}.items()},
        ratios=ratios,
        unavailable={name: why for name, why in rivals.items() if isinstance(why, str)},
    )


def quality(seed: int, effine: float, eager: float, **more: Any) -> dict[str, Any]:
    setting = {"data": "snips", "task": "classification", "train_size": 200, "per_class": None}
    setting |= {"max_test": None, "metric": "accuracy", "model": "tiny", "precision": "fp32"}
    scores = {"effine": effine, "eager": eager, "equal_predictions": 0.999}
    return (
        {"kind": "run", **setting, "method": "lora", "seed": seed, "epochs": None} | scores | more
    )


RECORDS = [
    step(64, 10.0, eager=20.0, compile=16.0, full=40.0, ort="no interpreter"),
    step(128, 30.0, eager=20.0),
    step(128, 10.0, eager=20.0),
    record(
        "epoch",
        data="snips",
        examples=100,
        batch=8,
        seqs=[16],
        effine_s=[2.0, 1.0],
        eager_s=[4.0, 4.0],
        first_ratio=0.5,
        later_ratio=0.25,
    ),
    record(
        "shapes",
        batch=8,
        steps=3,
        lengths=[
            {"seq": 16, "ms": {"each": values(2.0), "one": values(4.0)}, "ratio": values(0.5)}
        ],
        growth={"each": 60e6, "one": 80e6},
    ),
    record(
        "scaling",
        points=[{"batch": 1, "seq": seq, "ms": 2.0 * seq} for seq in (8, 16)],
        fit={"a": 0.0, "b": 2.0, "c": 0.0, "r2": 1.0},
        layers=[
            {"first_layer": 3 - above, "above": above, "step_ms": 5.0, "train_ms": 2.0 * above}
            for above in (1, 2)
        ],
        lines={"step": {"a": 5.0, "b": 0.0, "r2": 1.0}, "train": {"a": 0.0, "b": 2.0, "r2": 0.5}},
    ),
    record(
        "sdk",
        batch=8,
        seq=64,
        ms={"step": values(10.2), "bare": values(10.0)},
        ratio=values(1.02),
        heap=12345,
        direct=0,
        programs=["train_b8_s64"],
    ),
    record(
        "size",
        batch=8,
        seqs=[64],
        files={
            "backbone.ptd": 20_000_000,
            "backbone.pte": 1_000_000,
            "train.pte": 1_000_000,
            "predict.pte": 1_000_000,
            "state.safetensors": 1_000_000,
            "tokenizer.json": 1_000_000,
        },
        rivals={"weights": 100_000_000, "joint": 200_000_000},
        unavailable={"joint XNNPACK": "it broke"},
    ),
    record(
        "memory",
        batch=8,
        seqs=[64],
        peak=50e6,
        predicted=55e6,
        rivals={"eager": 100e6, "full": 500e6},
    ),
    record(
        "tasks",
        seqs=[64],
        tasks=[
            {"method": "head", "peak": 40e6, "resident": 20e6},
            {"method": "read", "peak": 42e6, "resident": 25e6},
        ],
    ),
    record(
        "export",
        batch=8,
        seqs=[64],
        seconds=9.0,
        stages={"loading": 4.0, "lowering": 5.0},
        peak=1e9,
        worker_peak=5e8,
    ),
    quality(0, 0.90, 0.91),
    quality(1, 0.92, 0.91),
    quality(0, 0.90, 0.91)
    | {
        "kind": "grid",
        "score": 0.5,
        "piece_rate": 1e-3,
        "head_rate": 1e-2,
        "epochs": 5,
    },
]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in RECORDS))
    return path


def report(results: Path, *more: object) -> tuple[object, ...]:
    folder = results.parent
    return ("bench", "report", results, "--out", folder / "B.md", "--plots", folder / "p", *more)


def rows(page: str, start: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if line.startswith(f"| {start}")
    ]


def test_the_page_quotes_the_stronger_rival_and_the_newest_record(results: Path) -> None:
    good(*report(results))
    page = (results.parent / "B.md").read_text()
    same, full, longer = rows(page, "step, tiny adapter int8")
    assert same[1:] == ["10.0 ms", "rival compile", "16.0 ms", "0.625"]
    assert full[1:] == ["10.0 ms", "rival full", "40.0 ms", "0.250"]
    assert longer[1:] == ["10.0 ms", "rival eager", "20.0 ms", "0.500"]
    (size,) = rows(page, "size, tiny adapter int8")
    assert size[1:] == ["25.0 MB", "weights", "100.0 MB", "0.250"]
    assert (
        "not measured: no interpreter" in page and "joint XNNPACK: not measured: it broke" in page
    )
    assert "Slow 3000, 2 cores" in page and "2026-01-02; load average 0.50 to 0.75" in page
    (one,) = rows(page, "tiny adapter fp32, B=8 S=16")
    assert one[1:] == ["2.0 (0.9-1.1)", "4.0 (0.9-1.1)", "0.500 (0.900-1.100)"]
    (growth,) = rows(page, "tiny adapter fp32, B=8, growth")
    assert growth[1:] == ["60.0 MB", "80.0 MB", "0.750"]
    (sdk,) = rows(page, "tiny adapter int8, B=8 S=64, 2 threads | 10.20")
    assert sdk[3:] == ["1.0200 (0.9000-1.1000)", "1.0200", "12,345", "0"]
    (memory,) = rows(page, "tiny adapter int8, B=8 S=64 | 50.0")
    assert memory[1:] == ["50.0 MB", "55.0 MB", "+10.0%", "100.0 MB (0.50)", "500.0 MB (0.10)"]
    (task,) = rows(page, "and | read")
    assert task[2:] == ["42.0 MB (+5.0%)", "25.0 MB (+25.0%)"]
    kinds = ("step", "epoch", "shapes", "scaling", "sdk", "size", "memory", "tasks", "export")
    for kind in kinds:
        assert page.count(f"```\neffine bench {kind}\n```") == 1
    (scores,) = rows(page, "snips 200 | accuracy")
    assert scores[5:10] == ["91.00", "91.00", "+0.00", "1.00", "99.9 %"]
    (grid,) = rows(page, "snips 200 | lora")
    assert grid[2:] == ["1", "1", "-", "0.5000", "-", "0.001", "0.01", "5"]


def test_every_plot_is_drawn_and_a_stale_page_or_plot_is_noticed(results: Path) -> None:
    good(*report(results))
    folder = results.parent
    page = (folder / "B.md").read_text()
    plots = sorted(path.name for path in (folder / "p").iterdir())
    assert plots == ["layers.png", "scaling.png", "size.png", "step.png"]
    assert all(f"](p/{name})" in page for name in plots)
    good(*report(results, "--check"))

    (folder / "p" / "size.png").write_bytes((folder / "p" / "step.png").read_bytes())
    stale = run(*report(results, "--check"))
    assert stale.exit_code == 1 and "size.png" in stale.stderr and "B.md" not in stale.stderr
    good(*report(results))
    with results.open("a") as file:
        file.write(json.dumps(step(64, 5.0, eager=20.0)) + "\n")
    stale = run(*report(results, "--check"))
    assert stale.exit_code == 1 and "B.md" in stale.stderr and "step.png" in stale.stderr
    assert (folder / "B.md").read_text() == page


def test_records_of_two_machines_stay_apart(results: Path) -> None:
    with results.open("a") as file:
        about = MACHINE | {"cpu": "Fast 9000", "vectors": ["avx2", "avx512f"]}
        other = step(64, 5.0, eager=50.0) | {"machine": about}
        file.write(json.dumps(other) + "\n")
    good(*report(results))
    page = (results.parent / "B.md").read_text()
    first, second = page.split("Fast 9000 (avx2, avx512f)")
    assert page.count("Medians with quartiles") == 1
    assert "20.0 (0.9-1.1)" in first and "50.0 (0.9-1.1)" in second
    assert "/step.png)" in first and "/step-2.png)" in second


def test_a_paper_without_a_figure_yet_is_left_out(results: Path) -> None:
    begun = {"paper": "spartan", "part": "machine", "arm": None, "seed": None}
    with results.open("a") as file:
        file.write(json.dumps(record("paper", setting=begun)) + "\n")
    good(*report(results))
    page = (results.parent / "B.md").read_text()
    assert "## The papers' figures" in page and "SPARTAN" not in page


def test_what_cannot_become_a_page_is_refused(results: Path, tmp_path: Path) -> None:
    assert "no such file" in refused(*report(tmp_path / "absent.jsonl"))
    with results.open("a") as file:
        file.write('{"kind": "horoscope"}\n')
    assert "records of kind horoscope: known are step" in refused(*report(results))
    assert not (tmp_path / "B.md").exists()
    common = ("bench", "report", results, "--plots", tmp_path / "p")
    assert "no such directory" in refused(*common, "--out", tmp_path / "absent" / "B.md")


def test_a_stamped_record_names_the_machine() -> None:
    made = stamped("step", "effine bench step", 0.25, {"method": "head"})
    assert made["machine"] == machine() and made["load"][0] == 0.25
    assert made["machine"]["cpu"] and made["machine"]["versions"]["torch"]


@pytest.mark.parametrize(
    ("cpuinfo", "cpu", "vectors"),
    [
        ("processor\t: 0\nmodel name\t: Fast 9000\nflags\t\t: fpu avx512f avx2\n", "Fast 9000", 2),
        ("processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU part\t: 0xd0c\n", None, 1),
        ("", None, 0),
    ],
)
def test_the_machine_names_its_vector_instructions(
    cpuinfo: str, cpu: str | None, vectors: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(records, "_CPUINFO", tmp_path / "cpuinfo")
    found = machine()
    assert found["cpu"] == (cpu or platform.processor() or platform.machine())
    assert len(found["vectors"]) == vectors and set(found["vectors"]) <= set(cpuinfo.split())


def test_the_committed_records_are_readable() -> None:
    for path in Path(__file__).parents[2].glob("docs/results/*.jsonl"):
        assert read_records(path)
