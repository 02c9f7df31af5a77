"""Train in a child process that is killed again and again; run as a script.

This process never loads a program, so that forking it is safe.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import effine.runtime.engines.executorch  # noqa: F401  (imported once, for all children)
from artifacts import intents
from effine.runtime.trainer import Trainer

EPOCHS = 8


def train(artifact: Path, checkpoint: Path) -> None:
    """Start or resume a run with a checkpoint after every update."""
    trainer = Trainer(artifact, threads=1)
    if checkpoint.exists():
        trainer.resume(checkpoint, intents(), eval=intents(3), checkpoint_every=1)
    else:
        trainer.fit(
            intents(),
            eval=intents(3),
            checkpoint=checkpoint,
            checkpoint_every=1,
            epochs=EPOCHS,
            head_rate=0.05,
        )


def fork(artifact: Path, checkpoint: Path) -> int:
    child = os.fork()
    if child == 0:
        try:
            train(artifact, checkpoint)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return child


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(artifact: Path, folder: Path, kills: int, seed: int) -> None:
    whole, broken = folder / "whole.ckpt", folder / "broken.ckpt"
    started = time.monotonic()
    if wait(fork(artifact, whole)) != 0:
        sys.exit("the uninterrupted run failed")
    longest = 0.8 * (time.monotonic() - started)
    random.seed(seed)
    rounds = killed = midway = 0
    while True:
        child = fork(artifact, broken)
        if killed < kills:
            time.sleep(random.uniform(0, longest))
            os.kill(child, signal.SIGKILL)
        code = wait(child)
        if code == -signal.SIGKILL:
            killed += 1
            midway += broken.exists()
            continue
        if code != 0:
            sys.exit(f"a child failed after {killed} kills")
        rounds += 1
        if broken.read_bytes() != whole.read_bytes():
            sys.exit(f"round {rounds} ended in another state after {killed} kills")
        broken.unlink()
        if killed == kills:
            print(killed, midway, rounds, longest)
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
