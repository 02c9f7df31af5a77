import hashlib
import json
import math
import os

import numpy as np
import pytest

from effine.runtime.data import as_examples, load_examples, read_labels
from effine.runtime.errors import DataError, EffineError
from effine.runtime.examples import Example, fingerprint

CLASSES = "classification"
SCORES = "regression"


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: str | bytes):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def error_of(call, *args, **kwargs) -> str:
    with pytest.raises(DataError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_three_formats_hold_the_same(write):
    expected = [
        Example('say "hi", now', label="greet"),
        Example("two\nlines", label="1"),
        Example("日本語", label="greet"),
    ]
    csv = 'id,text,label\n1,"say ""hi"", now",greet\n\n2,"two\nlines",1\n3,日本語,greet\n'
    tsv = 'label\ttext\ngreet\t"say ""hi"", now"\n1\t"two\nlines"\ngreet\t日本語\n'
    rows = [{"text": e.text, "label": e.label} for e in expected]
    rows[1]["label"] = 1
    jsonl = "\n\n".join(json.dumps(row) for row in rows)
    assert load_examples(write("a.csv", csv), CLASSES) == expected
    assert load_examples(write("a.TSV", tsv.replace("\n", "\r\n")), CLASSES) == [
        expected[0],
        Example("two\r\nlines", label="1"),
        expected[2],
    ]
    assert load_examples(str(write("a.jsonl", jsonl)), CLASSES) == expected


def test_byte_order_mark_and_crlf_are_fine(write):
    content = b"\xef\xbb\xbftext,label\r\nhi,a\r\n"
    assert load_examples(write("a.csv", content), CLASSES) == [Example("hi", label="a")]
    content = b'\xef\xbb\xbf{"text": "hi", "label": "a"}\r\n'
    assert load_examples(write("a.jsonl", content), CLASSES) == [Example("hi", label="a")]


def test_line_separators_inside_a_json_text_do_not_split_it(write):
    path = write("a.jsonl", '{"text": "a\u2028b\x85c", "label": "x"}\n')
    assert load_examples(path, CLASSES)[0].text == "a\u2028b\x85c"


def test_origins_count_lines_with_blank_and_multiline_ones(write):
    path = write("a.csv", '\ntext,label\n"one\ntwo",a\n\nhi,b\n')
    origins = [example.origin for example in load_examples(path, CLASSES)]
    assert origins == [f"{path}, line 3", f"{path}, line 6"]


def test_pairs_and_scores(write):
    path = write("a.csv", "text,text_b,score\na,b,3.5\nc,d,-1e-2\n")
    assert load_examples(path, SCORES) == [
        Example("a", "b", score=3.5),
        Example("c", "d", score=-0.01),
    ]
    path = write("a.jsonl", '{"text": "a", "score": 4, "label": "ignored"}')
    assert load_examples(path, SCORES) == [Example("a", score=4.0)]


def test_an_empty_text_b_column_means_single_texts(write):
    path = write("a.csv", "text,text_b,label\na,,x\nb,,y\n")
    assert [example.text_b for example in load_examples(path, CLASSES)] == [None, None]
    path = write("a.jsonl", '{"text": "a", "text_b": null, "label": "x"}')
    assert load_examples(path, CLASSES)[0].text_b is None


def test_unlabelled_data_needs_text_alone_and_ignores_labels(write):
    path = write("a.csv", "text\na\n")
    assert load_examples(path, CLASSES, labelled=False) == [Example("a")]
    path = write("a.csv", "text,score\na,none\n")
    assert load_examples(path, SCORES, labelled=False) == [Example("a")]


def test_a_field_larger_than_the_csv_limit(write):
    path = write("a.csv", f"text,label\n{'x' * 300_000},a\n")
    assert len(load_examples(path, CLASSES)[0].text) == 300_000


@pytest.mark.parametrize(
    ("name", "content", "where", "problem"),
    [
        ("a.csv", "", "", "the file is empty"),
        ("a.jsonl", "\n \n", "", "the file is empty"),
        ("a.csv", "text,label\n", "", "holds no examples"),
        ("a.txt", "hi", "", "unknown format '.txt'; use .csv, .tsv or .jsonl"),
        ("a", "hi", "", "unknown format ''; use .csv, .tsv or .jsonl"),
        ("a.jsonl", '{"text": "a", "label": "x"}\n{"text": ', ", line 2", "malformed JSON"),
        ("a.jsonl", "[" * 100_000, ", line 1", "malformed JSON"),
        ("a.jsonl", '{"text": ' + "1" * 5000 + "}", ", line 1", "malformed JSON"),
        ("a.jsonl", '["a", "x"]', ", line 1", "not a JSON object"),
        ("a.jsonl", '{"text": 5, "label": "x"}', ", line 1", "text is 5, not a string"),
        ("a.jsonl", '{"text": null, "label": "x"}', ", line 1", "text is None, not a string"),
        ("a.jsonl", r'{"text": "\ud800", "label": "x"}', ", line 1", "half a surrogate pair"),
        ("a.jsonl", '{"text": "a", "text_b": 1, "label": "x"}', ", line 1", "text_b is 1"),
        ("a.jsonl", '{"text": "a", "label": true}', ", line 1", "label is True"),
        ("a.jsonl", '{"text": "a", "label": null}', ", line 1", "the label is empty"),
        ("a.jsonl", '{"text": "a", "lable": "x"}', ", line 1", "'label' (found: 'text', 'lable')"),
        ("a.jsonl", "{}", ", line 1", "no column 'text' (found: none)"),
        ("a.csv", "text,label\na,x,y\n", ", line 2", "3 fields where the header has 2"),
        ("a.csv", "text,label\na,x\n\nb\n", ", line 4", "1 fields where the header has 2"),
        ("a.tsv", "text\tlabel\na\tx\ty\n", ", line 2", "quote texts that hold a tab"),
        ("a.csv", 'text,label\n"a,x\nb,y\n', ", line 2", "a quote is opened and never closed"),
        ("a.csv", 'text,label\na,x\n"b"c,y\n', ", line 3", "malformed quoting"),
        ("a.csv", "text,text,label\na,b,x\n", ", line 1", "two columns 'text'"),
        ("a.csv", "sentence,label\na,x\n", ", line 1", "'text' (found: 'sentence', 'label')"),
        ("a.csv", "text,label\na,x\nb, \n", ", line 3", "the label is empty"),
        ("a.csv", b"text,label\na,x\n\xe9t\xe9,y\n", ", line 3", "not UTF-8 (byte 15); save it as"),
        ("a.csv", b"\xef\xbb\xbftext\n\xff", ", line 2", "not UTF-8 (byte 8); save it as UTF-8"),
        ("a.csv", "text,label\na,x\n".encode("utf-16"), ", line 1", "not UTF-8 (byte 0)"),
        ("a.csv", "text,text_b,label\na,b,x\nc,,y\n", ", line 3", "no text_b, unlike"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "a", "text_b": "b", "label": 1}',
         ", line 2", "a text_b, unlike"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_in_one_line(write, name, content, where, problem):
    path = write(name, content)
    message = error_of(load_examples, path, CLASSES)
    assert message.startswith(f"{path}{where}: ")
    assert problem in message


@pytest.mark.parametrize("value", ["", "good", "nan", "inf", "1e400", "1e39", "3,5", "1_0", "٣"])
def test_a_csv_score_must_be_a_finite_number(write, value):
    path = write("a.csv", f'text,score\na,1\nb,"{value}"\n')
    message = error_of(load_examples, path, SCORES)
    assert message.startswith(f"{path}, line 3: score {value!r} is not a finite number")


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "null", "true", "[1]", "1" * 400])
def test_a_json_score_must_be_a_finite_number(write, value):
    path = write("a.jsonl", f'{{"text": "a", "score": {value}}}')
    assert "line 1: score" in error_of(load_examples, path, SCORES)


def test_a_regression_file_without_scores(write):
    path = write("a.csv", "text,label\na,x\n")
    assert "no column 'score' (found: 'text', 'label')" in error_of(load_examples, path, SCORES)


def test_missing_file_and_directory(tmp_path):
    missing = tmp_path / "none.csv"
    assert error_of(load_examples, missing, CLASSES) == f"{missing}: no such file; check the path"
    folder = tmp_path / "data.csv"
    folder.mkdir()
    assert "is a directory; give a file" in error_of(load_examples, folder, CLASSES)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads every file")
def test_unreadable_file(write):
    path = write("a.csv", "text\na\n")
    path.chmod(0)
    assert "can't be read" in error_of(load_examples, path, CLASSES)


def test_unknown_task(write):
    with pytest.raises(EffineError, match="'tagging' is unknown; use one of classification"):
        as_examples([{"text": "a"}], "tagging")


def test_a_long_value_is_cut_in_messages():
    message = error_of(as_examples, [{"text": "a", "score": "x\n" * 5000}], SCORES)
    assert len(message) < 200


def test_examples_in_memory(write):
    expected = [Example("a", label="x"), Example("b", label="3")]
    assert as_examples([{"text": "a", "label": "x"}, {"text": "b", "label": 3}], CLASSES) == (
        expected
    )
    assert as_examples([expected[0], {"text": "b", "label": np.int64(3)}], CLASSES) == expected
    assert as_examples([{"text": "a", "score": np.float32(2.5)}], SCORES) == [
        Example("a", score=2.5)
    ]
    assert as_examples(["a", "b"], CLASSES, labelled=False) == [Example("a"), Example("b")]
    path = write("a.csv", "text,label\na,x\nb,3\n")
    assert as_examples(path, CLASSES) == as_examples(str(path), CLASSES) == expected
    origins = [example.origin for example in as_examples(load_examples(path, CLASSES), CLASSES)]
    assert origins == [f"{path}, line 2", f"{path}, line 3"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "the data: holds no examples"),
        (["a"], "data[0]: a str where a mapping is needed"),
        ([{"text": "a", "label": "x"}, None], "data[1]: a NoneType where a mapping is needed"),
        ([{"text": "a"}], "data[0]: no column 'label' (found: 'text')"),
        ([{"text": "a", "label": math.nan}], "data[0]: the label is empty"),
        ([Example("a")], "data[0]: no column 'label'"),
        ([{"text": b"a", "label": "x"}], "data[0]: text is b'a', not a string"),
    ],
)
def test_errors_in_memory_name_the_index(data, message):
    assert error_of(as_examples, data, CLASSES).startswith(message)


TAGS = "multilabel"


def test_several_labels_in_each_format(write):
    expected = [
        Example("a", labels=("x", "y z")),
        Example("b", labels=()),
        Example("c", labels=("7",)),
    ]
    csv = write("a.csv", "text,labels\na,x | y z\nb,\nc,7\n")
    tsv = write("a.tsv", "text\tlabels\na\tx|y z\nb\t\nc\t7\n")
    jsonl = write(
        "a.jsonl",
        '{"text": "a", "labels": ["x", "y z"]}\n{"text": "b", "labels": []}\n'
        '{"text": "c", "labels": [7]}\n',
    )
    for path in (csv, tsv, jsonl):
        assert load_examples(path, TAGS) == expected
    assert as_examples(expected, TAGS) == expected
    assert as_examples([{"text": "a", "labels": ("x", "y z")}], TAGS) == expected[:1]
    assert as_examples(["a"], TAGS, labelled=False) == [Example("a")]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('"labels": null', 'labels is None, not a list; write ["a", "b"], or [] for none'),
        ('"labels": 3', "labels is 3, not a list"),
        ('"labels": {"a": 1}', "not a list"),
        ('"labels": ["a", "b", "a"]', "label 'a' is given twice"),
        ('"labels": ["a", " "]', "the label is empty"),
        ('"labels": ["a", null]', "the label is empty"),
        ('"labels": ["a", ["b"]]', "label is ['b'], not a string"),
        ('"labels": "a||b"', "the label is empty"),
        ('"label": "a"', "no column 'labels' (found: 'text', 'label')"),
    ],
)
def test_malformed_lists_of_labels(write, row, problem):
    path = write("a.jsonl", f'{{"text": "fine", "labels": ["a"]}}\n{{"text": "a", {row}}}\n')
    message = error_of(load_examples, path, TAGS)
    assert message.startswith(f"{path}, line 2: ") and problem in message


def test_reading_labels(write):
    path = write("labels.txt", b"\xef\xbb\xbfb\r\na label\r\nc")
    assert read_labels(path) == ["b", "a label", "c"]
    assert read_labels(str(write("labels.txt", "b\na\n"))) == ["b", "a"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", ": the file is empty"),
        (b"a\n\nb\n", ", line 2: the line is blank"),
        (b"a\nb\n\n", ", line 3: the line is blank"),
        (b"a\nb\na\n", ", line 3: label 'a' is on line 1 already"),
        (b"a\n\xff\n", ", line 2: not UTF-8"),
    ],
)
def test_malformed_label_files(write, content, problem):
    path = write("labels.txt", content)
    assert error_of(read_labels, path).startswith(f"{path}{problem}")


def test_the_fingerprint_is_of_content_and_order():
    base = [Example("ab", "c", "x"), Example("d", "e", "y")]
    variants = [
        base,
        base[::-1],
        base[:1],
        [Example("a", "bc", "x"), base[1]],
        [Example("ab", "c", "z"), base[1]],
        [Example("ab", None, "x"), base[1]],
        [Example("ab", "", "x"), base[1]],
        [Example("ab", "c", None, 1.0), base[1]],
        [Example("ab", "c", None, 1.5), base[1]],
        [Example("ab", "c", "x", labels=()), base[1]],
        [Example("ab", "c", "x", labels=("p", "q")), base[1]],
        [Example("ab", "c", "x", labels=("pq",)), base[1]],
    ]
    assert len({fingerprint(examples) for examples in variants}) == len(variants)
    moved = [Example("ab", "c", "x", origin="elsewhere"), base[1]]
    assert fingerprint(moved) == fingerprint(base)


def test_the_fingerprint_hashes_the_documented_bytes():
    content = b"\x01\x02" + bytes(7) + b"hi" + b"\x00" + b"\x00"
    content += b"\x01" + bytes.fromhex("000000000000f83f")
    assert fingerprint([Example("hi", score=1.5)]) == hashlib.sha256(content).hexdigest()
