"""Changed samples of everything that keraslm parses are refused with a sentence, or parsed with a valid result.

`tests/fuzz/run.py` does the same for longer, guided by coverage.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import seeds, strategies
from tests.fuzz.cases import Case, cases
from tests.fuzz.targets import TARGETS, is_refused

CASES = cases()
TOKENIZERS = [json.loads(sample) for sample in seeds.SEEDS["tokenizer"]()]
RECORDS = [json.loads(sample) for sample in seeds.SEEDS["record"]()]
ROWS = [json.loads(line) for sample in seeds.SEEDS["nbest_jsonl"]() for line in sample.splitlines()]
PAIRS = [json.loads(next(iter(seeds.SEEDS["pairs_sentence"]())).splitlines()[0])]
EPOCH = {"epoch": 1, "loss": 2.5, "perplexity": 7.0, "val_perplexity": 8}


def test_every_target_accepts_its_first_sample():
    assert seeds.SEEDS.keys() == TARGETS.keys()
    for name, target in TARGETS.items():
        samples = [*seeds.SEEDS[name]()]
        assert not samples or not is_refused(target, samples[0]), name
        assert all(isinstance(is_refused(target, sample), bool) for sample in samples)


@pytest.mark.parametrize("case", CASES, ids=[f"{case.target}: {case.happened}" for case in CASES])
def test_previous_finds_stay_fixed(case: Case):
    assert is_refused(TARGETS[case.target], case.data) == case.refused


@settings(max_examples=300)
@given(strategies.json_texts(seeds.run_header()) | strategies.json_texts(seeds.run_header(**{"vocab_size": 6})))
def test_any_configuration(data):
    is_refused(TARGETS["config"], data)


@settings(max_examples=100)
@given(st.lists(strategies.json_texts(EPOCH), max_size=3))
def test_any_metrics(rows):
    is_refused(TARGETS["metrics"], b"".join(row + b"\n" for row in rows))


@settings(max_examples=200)
@given(strategies.json_texts(json.loads(next(iter(seeds.SEEDS["checkpoint_state"]())))))
def test_any_state_of_a_checkpoint(data):
    is_refused(TARGETS["checkpoint_state"], data)


@settings(max_examples=400)
@given(st.sampled_from(TOKENIZERS).flatmap(strategies.json_texts), st.sampled_from(["tokenizer", "tokenizer_file"]))
def test_any_tokenizer(data, target):
    is_refused(TARGETS[target], data)


SYMBOLS = st.sampled_from(["<unk>", "</s>", "\u2581", "|", "a", "b", "the", "\x00", "é", "\r", "\t"])
SYMBOLS |= st.sampled_from(["\n", "\n", "0", "1", "2", "3", "-1", "99999999999"])


@settings(max_examples=200)
@given(st.lists(SYMBOLS))
def test_any_table_of_symbols(parts):
    is_refused(TARGETS["tokenizer_file"], " ".join(parts).encode())


@settings(max_examples=100)
@given(
    kind=st.integers(-1, 5),
    score=st.floats(width=32),
    charsmap=st.binary(max_size=12),
    remove_extra_whitespaces=st.booleans(),
    wreck=st.binary(max_size=3),
    place=st.integers(0, 100),
)
def test_any_sentencepiece_model(kind, score, charsmap, remove_extra_whitespaces, wreck, place):
    pytest.importorskip("sentencepiece", reason="the extra sentencepiece is not installed")
    if kind not in (1, 2, 3, 4):
        kind = 1
    data = seeds.sentencepiece_model(kind, score, charsmap, remove_extra_whitespaces=remove_extra_whitespaces)
    is_refused(TARGETS["sentencepiece"], data[:place] + wreck + data[place + len(wreck) :])


@settings(max_examples=300)
@given(strategies.safetensors(seeds.tensors()))
def test_any_weights(data):
    is_refused(TARGETS["weights"], data)


PIECES = st.sampled_from(
    [b"\n", b"\r\n", b"\r", b"\xef\xbb\xbf", b"\xff", b"\x00", b"the", " é\u2028日".encode(), b"\x1f\x8b"]
)
TEXTS = st.lists(PIECES, max_size=12).map(b"".join)
PACKED = st.sampled_from([bytes, gzip.compress, bz2.compress, lzma.compress])


@settings(max_examples=200)
@given(TEXTS, PACKED, st.integers(0, 8), st.sampled_from(["text", "score", "round_trip"]))
def test_any_text(data, pack, lost, target):
    whole = pack(data)
    is_refused(TARGETS[target], whole[: len(whole) - lost])


@settings(max_examples=200)
@given(st.lists(st.sampled_from(ROWS).flatmap(strategies.json_texts), max_size=4))
def test_any_list_of_json(rows):
    is_refused(TARGETS["nbest_jsonl"], b"\n".join(rows))


CELLS = st.sampled_from(["u1", "u1-1", "u1-2", "u2", "1.5", "nan", "1e999", "the", "1_0", "１", "\ud800", "text"])
CELLS |= st.sampled_from(["utterance", "\t", "\t", "\n", "\n"])


@settings(max_examples=200)
@given(
    st.lists(CELLS),
    st.sampled_from(["nbest_tsv", "nbest_kaldi", "nbest_moses", "references", "pairs_sentence"]),
)
def test_any_list_of_columns(parts, target):
    is_refused(TARGETS[target], "".join(parts).encode("utf-8", "surrogatepass"))


ROWS_OF_ARPA = st.sampled_from(next(iter(seeds.SEEDS["arpa"]())).splitlines())
ROWS_OF_ARPA |= st.sampled_from(
    [b"ngram 2=9" * 9, b"0 a\t1e29", b"-1e29\tb", b"nan\ta", b"-1_0\t<s> \xff", b"\x00 0 b -inf"]
)
PARTS = st.sampled_from(["N=2", "L=1", "I=0", "I=1", "J=0 S=0 E=1", "J=1 S=1 E=0", "W=a", 'W="a b"', "W='", "a=-1e30"])
PARTS |= st.sampled_from(
    ["l=x", "base=0", "base=1e-9", "start=1", "u", "0 1 a 1,2,", "1", "1 2 3 a", "#", ".", "\\303"]
)


@settings(max_examples=200)
@given(st.dictionaries(st.integers(0, 19), ROWS_OF_ARPA, max_size=4), st.integers(0, 20))
def test_any_arpa_file(changed, last):
    rows = next(iter(seeds.SEEDS["arpa"]())).splitlines()
    is_refused(TARGETS["arpa"], b"\n".join(changed.get(place, row) for place, row in enumerate(rows)) + b"\n" * last)


@given(st.lists(PARTS | st.sampled_from([" ", "\n", "\n"])), st.sampled_from(["lattice_slf", "lattice_kaldi"]))
def test_any_lattice(parts, target):
    is_refused(TARGETS[target], "".join(parts).encode())
    is_refused(TARGETS[target], "\n".join(parts).encode())


@settings(max_examples=100)
@given(st.lists(st.sampled_from(PAIRS).flatmap(strategies.json_texts), max_size=3))
def test_any_pairs_of_json(rows):
    is_refused(TARGETS["pairs_sentence"], b"\n".join(rows))


@settings(max_examples=100)
@given(st.sampled_from(RECORDS).flatmap(strategies.json_texts))
def test_any_record(data):
    is_refused(TARGETS["record"], data)


@pytest.mark.parametrize("depth", range(880, 1010, 3))
@pytest.mark.parametrize("target", ["config", "metrics", "nbest_jsonl", "pairs_sentence", "record"])
def test_any_depth(target, depth):
    """The depth at which each step of the way gives up, and each between them."""
    deep = b"[" * depth + b"]" * depth
    sample = next(iter(seeds.SEEDS[target]())).split(b"\n")[0].rstrip()
    is_refused(TARGETS[target], sample[:-1] + b', "deep": ' + deep + b"}")
    is_refused(TARGETS[target], b'{"format_version": ' + deep + b', "perplexity": ' + deep + b', "UID": ' + deep + b"}")
    is_refused(TARGETS[target], deep)
