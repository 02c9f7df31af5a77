import json
from collections import Counter
from pathlib import Path

import pytest

from effine.runtime.order import WINDOW, SplitMix64, batches, epoch_generator, mix

VECTORS = json.loads(Path(__file__).parents[1].joinpath("vectors/order.json").read_text())
PUBLISHED = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]


class Scripted(SplitMix64):
    def __init__(self, numbers: list[int]) -> None:
        self.numbers = iter(numbers)

    def next(self) -> int:
        return next(self.numbers)


def draws(generator: SplitMix64, count: int) -> list[str]:
    return [str(generator.next()) for _ in range(count)]


def test_published_splitmix64_outputs():
    assert draws(SplitMix64(1234567), 5) == [str(number) for number in PUBLISHED]
    assert VECTORS["splitmix64"][0] == {
        "state": "1234567",
        "outputs": [str(number) for number in PUBLISHED],
    }


def test_generators_agree_with_the_vectors():
    for case in VECTORS["splitmix64"]:
        assert draws(SplitMix64(int(case["state"])), 5) == case["outputs"]
    for case in VECTORS["mix"]:
        assert str(mix(int(case["number"]))) == case["result"]
    for case in VECTORS["epoch_generator"]:
        generator = epoch_generator(int(case["seed"]), case["epoch"])
        assert draws(generator, 3) == case["outputs"]


@pytest.mark.parametrize("case", VECTORS["batches"], ids=lambda c: str(len(c["lengths"])))
def test_batches_agree_with_the_vectors(case):
    made = batches(case["lengths"], case["batch"], int(case["seed"]), case["epoch"])
    assert made == case["batches"]


def test_a_negative_seed_is_its_64_bit_pattern():
    assert batches([8] * 20, 4, -1, 0) == batches([8] * 20, 4, 2**64 - 1, 0)


def test_uniform_draws_again_above_the_last_whole_multiple():
    limit = 2**64 - 2**64 % 10
    assert Scripted([limit, 2**64 - 1, limit - 1]).uniform(10) == 9
    assert Scripted([2**64 - 1]).uniform(8) == 7


def test_shuffle_swaps_from_the_end():
    items = list("abcd")
    Scripted([0, 1, 1]).shuffle(items)
    assert items == ["d", "c", "b", "a"]


def test_every_sample_comes_once_and_at_most_one_batch_is_short():
    lengths = [(8, 16, 64)[i % 3] for i in range(1003)]
    made = batches(lengths, 8, seed=5, epoch=2)
    assert sorted(index for batch in made for index in batch) == list(range(1003))
    assert Counter(map(len, made)) == {8: 125, 3: 1}


def test_a_window_holds_few_batches_of_mixed_length():
    lengths = [(8, 64)[i % 2] for i in range(8 * WINDOW * 4)]
    made = batches(lengths, 8, seed=1, epoch=0)
    for start in range(0, len(made), WINDOW):
        window = made[start : start + WINDOW]
        kinds = ["".join(sorted({str(lengths[i]) for i in batch})) for batch in window]
        assert kinds.count("648") <= 1
        assert kinds != sorted(kinds), "the batches of a window must be shuffled"


def test_epochs_and_seeds_differ():
    orders = [batches([8] * 100, 4, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])
