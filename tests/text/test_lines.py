"""One rule for line ends in strings, for every tokenizer and every function that takes a line."""

import numpy as np
import pytest

import keraslm
from keraslm import kenlm
from keraslm.config import DataConfig
from keraslm.errors import TextError
from keraslm.rescoring.hypothesis import Hypothesis
from keraslm.scoring import sampler
from keraslm.text.pieces import one_line
from keraslm.text.vocabulary import train_tokenizer

ENDS = ["\n", "\r\n", "\r"]
INSIDE = ["the\ncat", "the\r\ncat", "the\rcat", "the cat\n\n", "the cat\n\r", "\nthe cat", "the cat\r\r"]
KINDS = {
    "word": {"split_punctuation": True},
    "char": {},
    "byte": {"lowercase": True},
    "bpe": {"vocab_size": 280},
    "unigram": {"vocab_size": 30},
}
TOKENIZERS = {
    kind: train_tokenizer(["the cat sat", "the dog"] * 9, DataConfig(tokenizer=kind, **fields))
    for kind, fields in KINDS.items()
}


@pytest.mark.parametrize("line", ["the cat", "", " ", "a\u2028b\x0bc\x85d\x1ce"])
@pytest.mark.parametrize("end", ["", *ENDS])
def test_one_line_end_at_the_end_is_dropped(line, end):
    assert one_line(line + end) == line


@pytest.mark.parametrize("text", INSIDE)
def test_a_line_end_inside_is_refused_with_its_place(text):
    place = min(text.find(end) % 99 for end in "\r\n") + 1
    with pytest.raises(TextError, match=rf"f:3: a line end inside a line, at character {place} of {len(text)}: '"):
        one_line(text, "f:3")


@pytest.mark.parametrize("kind", KINDS)
def test_every_tokenizer_follows_the_rule(kind):
    tokenizer, line = TOKENIZERS[kind], "the cat sat"
    encoders = tokenizer.encode_prompt, tokenizer.offsets, lambda text: tokenizer.encode_lines(["", text])[1]
    for encode in encoders:
        for end in ENDS:
            np.testing.assert_array_equal(encode(line + end), encode(line))
        for text in INSIDE:
            with pytest.raises(TextError, match="a line end inside a line"):
                encode(text)


def functions(scorer, path):
    model = kenlm.Model(str(path))

    def step(word):
        state = kenlm.State()
        model.BeginSentenceWrite(state)
        return model.BaseScore(state, word, state)

    return {
        "score": scorer.score,
        "logprobs": lambda line: scorer.logprobs(["dog", line])[1].tolist(),
        "perplexity": lambda line: scorer.perplexity([line]),
        "score_lines": lambda line: [(s.text, s.characters, s.logprob) for s in scorer.score_lines([line, None])],
        "score_sets": lambda line: [(s.text, s.bytes, s.logprob) for s in next(keraslm.score_sets(scorer, [[line]]))],
        "rescore": lambda line: next(keraslm.rescore(scorer, [[Hypothesis("u", line, (1.0,))]])).totals.tolist(),
        "pairs": lambda line: keraslm.pairs(scorer, [(line, "dog")]).scores[0].good,
        "generate": lambda line: list(sampler.generate(scorer.session, line, 9, sampler.Sampling(0.0))),
        "kenlm score": model.score,
        "kenlm full_scores": lambda line: list(model.full_scores(line)),
        "kenlm perplexity": model.perplexity,
        "kenlm BaseScore": lambda line: step(line.replace("the cat", "cat")),
    }


def test_every_function_that_takes_a_line_follows_the_rule(bulk_model):
    for name, function in functions(keraslm.load(bulk_model), bulk_model).items():
        for end in ENDS:
            assert function("the cat" + end) == function("the cat"), name
        for text in INSIDE:
            with pytest.raises(TextError, match="a line end inside a line"):
                function(text)


def test_a_word_with_a_line_end_is_no_word_of_a_kenlm_model(fake):
    model = kenlm.Model(str(fake))
    assert "cat" in model and "the\ncat" not in model and "cat\n" not in model


def test_rows_of_files_name_their_place(fake, text):
    lists = text('{"utterance": "u", "text": "dog"}\n{"utterance": "u", "text": "the\\ncat"}\n')
    with pytest.raises(TextError, match=r"text\.txt:2: a line end inside a line, at character 4 of 7"):
        list(keraslm.rescore(fake, lists, format="jsonl"))
    pairs = text('{"sentence_good": "the\\ncat", "sentence_bad": "cat"}\n')
    with pytest.raises(TextError, match=r"text\.txt:1: a line end inside a line"):
        keraslm.pairs(fake, pairs)
