"""Sample data: short sentences for a phone assistant, over ten intents."""

from pathlib import Path

TRAIN = Path(__file__).parent / "intents.train.jsonl"
DEV = Path(__file__).parent / "intents.dev.jsonl"
