"""The same training run in Python and in a host written in another language."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from artifacts import ON_TOKENS, Rows
from commands import write
from effine.runtime.artifact import Artifact
from effine.runtime.tokens import write_tokens
from effine.runtime.trainer import Trainer
from runners import Host
from training import stop_at

SETTINGS = {"epochs": 4, "head_rate": 0.05, "schedule": "cosine", "warmup": 0.2, "seed": 3}


class Both:
    """One artifact and its data for both sides, each with a checkpoint of its own."""

    def __init__(self, artifact: Artifact, host: Host, folder: Path, data: Rows) -> None:
        self.artifact, self.host, self.data = artifact, host, data
        self.python, self.other = folder / "python.ckpt", folder / "other.ckpt"
        self.tokens = folder / "data.tokens"
        if artifact.manifest.task.name in ON_TOKENS:
            self.tokens = write(folder / "data.jsonl", data)
        else:
            write_tokens(self.tokens, artifact, data)

    def train_python(self, stop: int | None = None, **settings: Any) -> Trainer:
        return self.train_python_on(self.python, stop, **settings)

    def train_python_on(self, path: Path, stop: int | None = None, **settings: Any) -> Trainer:
        trainer = Trainer(self.artifact, threads=1)
        trainer.fit(self.data, checkpoint=path, callbacks=[stop_at(trainer, stop)], **settings)
        return trainer

    def go_on(self, host: Host | None, updates: int | None = None) -> None:
        """Go on with the other side's run for so many updates; None is Python."""
        if host is not None:
            self.host = host
            self.train_host("--resume", "--stop-after", str(updates))
            return
        trainer = Trainer(self.artifact, threads=1)
        stop = updates and trainer.load(self.other).update + updates
        trainer.resume(self.other, self.data, callbacks=[stop_at(trainer, stop)])

    def train_host(self, *options: str | Path, **settings: Any) -> str:
        for name, value in settings.items():
            options += (f"--{name.replace('_', '-')}", str(value))
        command = ("train", self.artifact.path, "--data", self.tokens, "--out", self.other)
        return self.host.run(*command, "--threads", "1", *options)

    def same(self) -> bool:
        return self.python.read_bytes() == self.other.read_bytes()
