"""n-best lists of Moses, read and written again, and read as the tools of Moses read them."""

from __future__ import annotations

import pytest

from keraslm.errors import TextError, UsageError
from keraslm.rescoring.nbest import best_row, read_nbest, score_name, scored_rows
from keraslm.text.files import TextFile

# As Moses writes them, with `-n-best-list FILE 2 distinct` and with alignments.
LISTS = (
    "0 ||| the cat  ||| LexicalReordering0= -1.2 0 LM0= -12.5 Distortion0= 0 WordPenalty0= -2 ||| -3.25\n"
    "0 |||  ||| LexicalReordering0= -2.4 0 LM0= -3 Distortion0= 0 WordPenalty0= 0 ||| -4e0\n"
    "12 ||| le  日本 ||| LexicalReordering0= 0 0 LM0= -7 Distortion0= 0 WordPenalty0= -2 ||| 1.5 ||| 0-0 1-1 \n"
)
PLAIN = "0 ||| a b\n0 ||| c\n"


@pytest.fixture
def file(tmp_path):
    def write(content: str) -> TextFile:
        (tmp_path / "lists").write_bytes(content.encode())
        return TextFile(tmp_path / "lists", name="lists")

    return write


def read(file):
    return [*read_nbest(file, "moses")]


def rows(utterances, name=None):
    return [row for own in utterances for row in scored_rows(own, [-1.5, -2.25][: len(own)], "moses", name)]


def features_of_mert(row):
    """The dense features of a row, as `Data::InitFeatureMap` of mert/Data.cpp names them."""
    names, values, name, index, sparse = [], [], "", 0, False
    for part in row.split("|||")[2].split():
        if sparse:
            sparse = False
        elif not part.endswith("="):
            names.append(f"{name}_{index}")
            values.append(float(part))
            index += 1
        elif "_" in part:
            sparse = True
        else:
            name, index = part[:-1], 0
    return dict(zip(names, values, strict=True))


def test_the_total_is_the_score(file):
    for content in (LISTS, "\ufeff" + LISTS, LISTS.replace("\n", "\r\n")):
        first, second = read(file(content))
        assert [(each.utterance, each.text, each.scores) for each in first] == [
            ("0", "the cat", (-3.25,)),
            ("0", "", (-4.0,)),
        ]
        assert [(each.utterance, each.text, each.names) for each in second] == [("12", "le  日本", ("total",))]


def test_the_score_is_the_last_feature(file):
    written = rows(read(file(LISTS)))
    assert written == [
        "0 ||| the cat ||| LexicalReordering0= -1.2 0 LM0= -12.5 Distortion0= 0 WordPenalty0= -2 KerasLM0= -1.500000 "
        "||| -3.25",
        "0 |||  ||| LexicalReordering0= -2.4 0 LM0= -3 Distortion0= 0 WordPenalty0= 0 KerasLM0= -2.250000 ||| -4e0",
        "12 ||| le  日本 ||| LexicalReordering0= 0 0 LM0= -7 Distortion0= 0 WordPenalty0= -2 KerasLM0= -1.500000 "
        "||| 1.5 ||| 0-0 1-1",
    ]
    for before, after in zip(LISTS.splitlines(), written, strict=True):
        found = features_of_mert(after)
        assert [*found][-1] == "KerasLM0_0" and found.pop("KerasLM0_0") < 0
        assert found == features_of_mert(before)
    again = read(file("".join(f"{row}\n" for row in written)))
    assert [[(each.text, each.scores) for each in own] for own in again] == [
        [(each.text, each.scores) for each in own] for own in read(file(LISTS))
    ]
    assert features_of_mert(rows(again, "Other")[0])["Other_0"] == -1.5
    with pytest.raises(TextError, match="lists:1: a feature KerasLM0 already exists; choose a different `name`"):
        rows(again)


def test_missing_fields(file):
    (own,) = read(file(PLAIN))
    assert [(each.text, each.scores) for each in own] == [("a b", ()), ("c", ())]
    assert rows([own]) == ["0 ||| a b ||| KerasLM0= -1.500000", "0 ||| c ||| KerasLM0= -2.250000"]
    (own,) = read(file("0|||a b|||\n0 ||| c ||| F0= 1 |||  \n"))
    assert rows([own]) == ["0 ||| a b ||| KerasLM0= -1.500000", "0 ||| c ||| F0= 1 KerasLM0= -2.250000 ||| "]


def test_best_rows(file):
    assert [best_row(own[-1], -1.0, "moses") for own in read(file(LISTS))] == ["0 ||| ", "12 ||| le  日本"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0 the cat\n", "lists:1: no |||. A row is: id ||| text ||| features ||| total."),
        (PLAIN + "\n", "lists:3: a blank line. A row is"),
        ("u1 ||| a\n", "lists:1: id 'u1' is not an integer"),
        (" ||| a\n", "lists:1: id '' is not an integer"),
        ("-1 ||| a\n", "lists:1: id '-1' is not an integer"),
        (LISTS + "13 ||| a ||| F0= 1\n", "lists:4: no total, but the first row has one"),
        (PLAIN + "1 ||| a ||| ||| -3\n", "lists:3: total -3, but the first row has none"),
        ("0 ||| a ||| F0= 1 ||| 0-0 1-1\n", "lists:1: total: '0-0 1-1' is not a finite number"),
        ("0 ||| a ||| F0= 1 ||| nan\n", "lists:1: total: 'nan' is not a finite number"),
        (LISTS + "0 ||| a ||| F0= 1 ||| 1\n", "lists:4: utterance '0' comes a second time"),
    ],
)
def test_faults(file, content, message):
    with pytest.raises(TextError) as refused:
        read(file(content))
    assert message in str(refused.value)


def test_names_that_moses_does_not_read_as_one_feature():
    assert (score_name(None, "moses"), score_name(None, "tsv"), score_name("LM9", "moses")) == (
        "KerasLM0",
        "lm_logprob",
        "LM9",
    )
    for name in ("lm_logprob", "LM 0", "LM=", "a|||b", ""):
        with pytest.raises(UsageError, match="the name of a feature of Moses has no white space, underscore, = or"):
            score_name(name, "moses")
    assert score_name("lm_logprob", "jsonl") == "lm_logprob"
