"""Sequence lengths from the data."""

from __future__ import annotations

import pytest

from effine.export.errors import ExportError
from effine.export.shapes import choose_seqs


def test_short_texts_need_one_short_shape() -> None:
    assert choose_seqs("auto", [7, 8, 8, 6] * 50, 512) == (8,)


def test_a_second_shape_appears_where_it_saves_work() -> None:
    seqs = choose_seqs("auto", [10] * 90 + [60] * 10, 512)
    assert seqs == (16, 64)


def test_one_outlier_does_not_make_everything_long() -> None:
    assert choose_seqs("auto", [10] * 999 + [500], 512)[-1] == 16


def test_the_limit_and_the_model_bound_the_length() -> None:
    assert choose_seqs("auto", [400] * 10, 512)[-1] == 128
    assert choose_seqs("auto", [400] * 10, 64)[-1] == 64


def test_given_lengths_are_sorted_and_checked() -> None:
    assert choose_seqs("64,16", [], 512) == (16, 64)
    with pytest.raises(ExportError, match="expected 'auto' or lengths"):
        choose_seqs("short", [], 512)
    with pytest.raises(ExportError, match="from 4 to 64"):
        choose_seqs("128", [], 64)
