"""Page, plot and rows show the same numbers under every combination of options."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import re
from itertools import product

import numpy as np
import pytest

from keraslm import Ensemble, ModelSession, ScoreOptions, Scorer, write_scores
from keraslm.config import DataConfig
from keraslm.errors import UsageError
from keraslm.perplexity import BASES
from keraslm.pictures.page import HtmlReport
from keraslm.pictures.plot import SurprisalPlot
from keraslm.text.vocabulary import train_tokenizer
from tests.pictures.test_page import Page
from tests.support import fake_model

CONTEXTS, UNITS = ("sentence", "document"), {"2": "bits", "e": "nats", "10": "hartleys"}
LEVELS, FORMATS = ("token", "word", "sentence", "summary"), ("tsv", "kenlm", "srilm")
LINES = ["the cat sat on the mat", "", "a zebra sat, zebra", "the cat"]
KINDS = {
    "word": {},
    "bpe": {"tokenizer": "bpe", "vocab_size": 270},
    "unigram": {"tokenizer": "unigram", "vocab_size": 30},
}


@pytest.fixture(scope="module", params=KINDS)
def scorer(request, tmp_path_factory):
    """Two models with a tokenizer of one kind, whose probabilities are averaged."""
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = train_tokenizer(["the cat sat on the mat", "a cat, the mat"] * 5, DataConfig(**KINDS[request.param]))
    size, info = tokenizer.vocab_size, fake_model.info_of(tokenizer)
    tables = [np.log(np.random.default_rng(seed).dirichlet(np.ones(size), size)) for seed in (1, 2)]
    paths = [fake_model.write(folder / f"{n}.onnx", table, info) for n, table in enumerate(tables)]
    return Scorer(Ensemble([ModelSession(path) for path in paths]))


def valid_options(format):
    for level, unk, spaces, base, context in product(
        LEVELS, ("include", "exclude"), ("before", "after"), (None, *BASES), CONTEXTS
    ):
        try:
            yield ScoreOptions(level=level, format=format, unk=unk, spaces=spaces, base=base, context=context)
        except UsageError:
            continue


class Shown:
    """What the page shows: its facts, and log-probability and surprisal of each token or word of each line."""

    def __init__(self, text, bases):
        self.facts = dict(re.findall(r"<dt>(.*?)</dt><dd><bdi>(.*?)</bdi>", text.replace(",", "")))
        page = Page(text)
        data = json.loads(page.content["data"])
        assert (data["units"], data["nats"]) == ([UNITS[base] for base in bases], [BASES[base] for base in bases])
        self.logprobs = [math.nan if value is None else value for value in data["tokens"][1 :: data["width"]]]
        self.entropies = data["tokens"][3 :: data["width"]]
        attributes = [each for tag, each, inside in page.elements if tag == "i" and inside]
        words = [each.get("data-s", "") for each in attributes]
        self.words = [math.nan if word == "null" else float(word) for word in words if word]
        self.bits = [ord(each["class"][0]) - ord("a") for each in attributes]
        assert f"surprisal in {UNITS[bases[1]]}" in text


def shown(scorer, options):
    """Rows, the page and the pieces of the plot."""
    report, out = HtmlReport(scorer.tokenizer, "text", options=options), io.StringIO()
    pictures = [report]
    if importlib.util.find_spec("matplotlib"):
        pictures.append(SurprisalPlot(scorer.tokenizer, "text", options))
    write_scores(scorer, LINES, options, out, watchers=[picture.add for picture in pictures], name="text")
    plotted = [value for _, value, _ in pictures[1]._pieces] if pictures[1:] else None
    return out.getvalue().splitlines(), Shown(report.page(), options.bases), plotted


def column(rows, name):
    place = rows[0].split("\t").index(name)
    return [float(row.split("\t")[place]) for row in rows[1:]]


def same(numbers, nan_ok=True):
    return pytest.approx(numbers, rel=1e-5, abs=3e-6, nan_ok=nan_ok)


def check_table(options, rows, page, plotted):
    surprisals = column(rows, "surprisal")
    if options.level == "token":
        assert page.logprobs == same(column(rows, "logprob"))
    if options.level == "word":
        assert page.words == same(surprisals)
        scale = BASES[options.bases[1]] / math.log(2)
        assert page.bits == [ord("U") - ord("a") if math.isnan(s) else min(int(s * scale), 15) for s in surprisals]
    if options.level == "sentence":
        tokens, oovs = column(rows, "tokens"), column(rows, "oovs")
        ends = np.cumsum(np.array(tokens) + (np.array(oovs) if options.unk == "exclude" else 0)).astype(int)
        found = [np.nansum(part) for part in np.split(page.logprobs, ends[:-1])]
        assert found == pytest.approx(column(rows, "logprob"), abs=1e-4)
        nats = -math.fsum(column(rows, "logprob")) * BASES[options.bases[0]]
        assert float(page.facts["perplexity per token"]) == pytest.approx(
            math.exp(nats / sum(tokens)), abs=0.006, rel=1e-4
        )
        assert page.facts["tokens"] == str(int(sum(tokens)))
    if plotted is not None and options.level != "sentence":
        assert np.nansum(plotted) == pytest.approx(np.nansum(surprisals), abs=1e-4)
        if options.level == "word":
            assert plotted == same(surprisals)


def check_other_tool(options, rows, page):
    text = "\n".join(rows)
    if options.format == "kenlm":
        if options.level != "summary":
            words = [-float(word) for word in re.findall(r"=\d+ \d+ (\S+)\t", text)]
            assert options.level == "sentence" or page.words == same(words)
        total = float(re.search(r"including OOVs:\t(\S+)", text)[1])
    else:
        words = [math.nan if "[OOV]" in row else -float(row.split()[-2]) for row in rows if "p( " in row]
        assert not words or page.words == same(words)
        total = float(re.search(r"ppl= (\S+)", text[text.index("file text") :])[1])
    assert float(page.facts["perplexity per word"]) == pytest.approx(total, abs=0.006, rel=1e-4)


@pytest.mark.parametrize("format", FORMATS)
def test_pictures_show_the_numbers_of_the_rows(scorer, format):
    for options in valid_options(format):
        rows, page, plotted = shown(scorer, options)
        if format != "tsv":
            check_other_tool(options, rows, page)
        elif options.level == "summary":
            values = dict(row.replace(",", "").split(maxsplit=1) for row in rows)
            for name in ("perplexity", "perplexity_per_word"):
                fact = "perplexity per word" if "word" in name else "perplexity per token"
                assert float(page.facts[fact]) == pytest.approx(float(values[name]), abs=0.006, rel=1e-4)
        else:
            check_table(options, rows, page, plotted)


def test_entropies_are_in_the_base_of_the_table(scorer):
    for base in (None, *BASES):
        options = ScoreOptions(base=base, columns=("surprisal", "entropy"))
        rows, page, _ = shown(scorer, options)
        assert page.entropies == same(column(rows, "entropy"))


def test_words_left_out_are_in_no_number_of_the_page(by_id):
    options = ScoreOptions(unk="exclude")
    _, page, _ = shown(by_id, options)
    known = [value for value in page.logprobs if not math.isnan(value)]
    assert page.facts["out of vocabulary"] == f"{len(page.logprobs) - len(known)} left out"
    assert "perplexity per word" not in page.facts
    assert float(page.facts["perplexity per token"]) == pytest.approx(math.exp(-np.mean(known)), abs=0.006, rel=1e-4)
