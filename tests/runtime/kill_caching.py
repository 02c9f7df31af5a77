"""Fill a feature cache in a child process that is killed again and again; run as a script.

The records are of a megabyte, so that many kills hit a write.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from effine.runtime.artifact import Artifact
from effine.runtime.feature_cache import FeatureCache
from effine.runtime.packing import Packing

SIZE = 2**20
RECORDS = 60


class Large(Packing):
    """Makes every payload large, whatever the number of tokens."""

    def size(self, tokens: int) -> int:
        return SIZE + tokens


def opened(path: Path, artifact: Artifact) -> FeatureCache:
    return FeatureCache(path, artifact, Large(artifact.manifest), 2**30)


def key(number: int) -> bytes:
    return number.to_bytes(32, "little")


def content(number: int) -> bytes:
    return np.random.default_rng(number).bytes(SIZE + 1 + number % 8)


def fill(path: Path, artifact: Artifact) -> None:
    cache = opened(path, artifact)
    for number in range(RECORDS):
        if key(number) not in cache:
            cache.put(key(number), 1 + number % 8, content(number))


def written(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def main(folder: Path, path: Path, kills: int, seed: int) -> None:
    artifact = Artifact.open(folder)
    random.seed(seed)
    torn = most = 0
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            fill(path, artifact)
            time.sleep(60)
        target = random.randint(0, RECORDS * SIZE)
        while written(path) < target:
            time.sleep(1e-4)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        size = written(path)
        cache = opened(path, artifact)
        torn += cache.size < size
        for number in range(RECORDS):
            found = cache.get(key(number))
            if found is not None and found != content(number):
                sys.exit(f"record {number} is wrong")
        most = max(most, len(cache))
        if len(cache) == RECORDS:
            path.unlink()
        cache.close()
    print(kills, torn, most)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
