"""The same training run in Python and in a host written in another language."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from artifacts import BATCH, ON_TOKENS, Rows, intents
from commands import write
from effine.runtime.artifact import Artifact
from effine.runtime.run import Progress
from effine.runtime.tokens import write_tokens
from effine.runtime.trainer import Trainer
from runners import Host

SETTINGS = {"epochs": 4, "head_rate": 0.05, "schedule": "cosine", "warmup": 0.2, "seed": 3}
UPDATES = math.ceil(len(intents()) / BATCH)


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
        trainer = Trainer(self.artifact, threads=1)

        def callback(progress: Progress) -> None:
            if progress.update == stop:
                trainer.cancel()

        trainer.fit(self.data, checkpoint=self.python, callbacks=[callback], **settings)
        return trainer

    def train_host(self, *options: str | Path, **settings: Any) -> str:
        for name, value in settings.items():
            options += (f"--{name.replace('_', '-')}", str(value))
        command = ("train", self.artifact.path, "--data", self.tokens, "--out", self.other)
        return self.host.run(*command, "--threads", "1", *options)

    def same(self) -> bool:
        return self.python.read_bytes() == self.other.read_bytes()
