"""Documents through a filter, compared with the scorer."""

from __future__ import annotations

import csv
import gzip
import io
import json
import weakref

import numpy as np
import pytest

from keraslm.errors import KeraslmError, MissingPackageError, TextError, UsageError
from keraslm.filtering import driver
from keraslm.filtering.criteria import Criteria
from keraslm.filtering.driver import filter_documents
from tests.filtering.conftest import json_lines, made
from tests.support import fake_model


@pytest.fixture
def kept(bulk_model, tmp_path):
    """Filter files and return the documents that are kept, and the result."""

    def call(*files, name="out.jsonl", criteria=None, **arguments):
        result = filter_documents(bulk_model, files, tmp_path / name, criteria or Criteria(), **arguments)
        return [json.loads(line) for line in (tmp_path / name).read_text().splitlines()], result

    return call


def test_each_document_has_the_scores_of_the_scorer(kept, corpus, by_history):
    found, result = kept(corpus)
    given = [document for document in made(200) if document["text"] and not document["text"].isspace()]
    assert [{"id": each["id"], "text": each["text"]} for each in found] == given
    costs = [score.cost for score in by_history.score_texts(document["text"] for document in given)]
    assert [each["perplexity"] for each in found] == [round(cost.perplexity, 4) for cost in costs]
    assert [each["bits_per_byte"] for each in found] == [round(cost.bits_per_byte, 6) for cost in costs]
    assert [each["tokens"] for each in found] == [cost.predicted for cost in costs]
    assert (result.documents, result.kept, result.missing) == (200, len(given), 200 - len(given))
    assert result.tokens == sum(cost.predicted for cost in costs) and result.seconds > 0


def test_a_perplexity_by_hand(fake, text, tmp_path):
    """Probabilities: the 3/21, cat 4/21, end 1/21; the document ends after its second line."""
    filter_documents(fake, [text('{"text": "the\\ncat"}', "a.jsonl")], tmp_path / "out.jsonl")
    found = json.loads((tmp_path / "out.jsonl").read_text())
    assert found["tokens"] == 4
    assert found["perplexity"] == pytest.approx((3 * 4 / 21**4) ** -0.25, abs=5e-5)
    assert found["bits_per_byte"] == pytest.approx(np.log2(21**4 / 12) / 8, abs=5e-7)  # two lines of three, two ends


def test_json_is_extended_without_being_written_anew(bulk_model, text, tmp_path):
    lines = [' {"n":1.0e400,  "text" : "the \\u00e9" , "n": 12345678901234567890.10} ', '{"text":"\u2028 cat"}']
    filter_documents(bulk_model, [text("\r\n".join(lines), "a.jsonl")], tmp_path / "out")
    found = (tmp_path / "out").read_bytes().decode().split("\n")
    assert found[0].startswith(' {"n":1.0e400,  "text" : "the \\u00e9" , "n": 12345678901234567890.10, "perplexity": ')
    assert found[1].startswith('{"text":"\u2028 cat", "perplexity": ') and found[2:] == [""]


def test_bounds_are_applied_to_what_is_written(kept, corpus):
    everything, _ = kept(corpus)
    some = everything[10]["perplexity"]
    found, result = kept(corpus, criteria=Criteria(max_perplexity=some))
    assert found == [each for each in everything if each["perplexity"] <= some]
    assert result.dropped == len(everything) - len(found) > 0
    found, _ = kept(corpus, criteria=Criteria(min_perplexity=some, max_bits_per_byte=2.0))
    assert found == [each for each in everything if each["perplexity"] >= some and each["bits_per_byte"] <= 2]


@pytest.mark.parametrize("sample", [1, 20, 64, 10_000])
def test_a_share_is_decided_by_the_first_documents(kept, corpus, sample):
    everything, _ = kept(corpus)
    found, result = kept(corpus, criteria=Criteria(keep=0.3, sample=sample))
    first = [each["perplexity"] for each in everything[:sample]]
    threshold = np.quantile(first, 0.3, method="inverted_cdf")
    assert result.rule.thresholds == (threshold,) and result.rule.sampled == len(first)
    assert found == [each for each in everything if each["perplexity"] <= threshold]


def test_buckets_are_a_field(kept, corpus):
    everything, _ = kept(corpus)
    names = ("head", "middle", "tail")
    found, result = kept(corpus, criteria=Criteria(bucket=names, sample=50), label="lm")
    low, high = np.quantile([each["perplexity"] for each in everything[:50]], [1 / 3, 2 / 3], method="inverted_cdf")
    places = [int(each["perplexity"] > low) + int(each["perplexity"] > high) for each in everything]
    assert [each["lm_bucket"] for each in found] == [names[place] for place in places]
    assert result.buckets == {name: places.count(number) for number, name in enumerate(names)}
    assert {*found[0]} == {"id", "text", "lm_perplexity", "lm_bits_per_byte", "lm_tokens", "lm_bucket"}


def test_each_bucket_may_have_a_file(bulk_model, kept, corpus, tmp_path):
    criteria = Criteria(bucket=("low", "high", "none"), cutoffs=(6, 1e9))
    everything, _ = kept(corpus, criteria=criteria)
    filter_documents(bulk_model, [corpus], tmp_path / "d.{bucket}.jsonl.gz", criteria)
    for name in ("low", "high", "none"):
        lines = gzip.decompress((tmp_path / f"d.{name}.jsonl.gz").read_bytes()).decode().splitlines()
        assert [json.loads(line) for line in lines] == [each for each in everything if each["bucket"] == name]
    assert {each["bucket"] for each in everything} == {"low", "high"}


def test_tables_keep_their_columns(bulk_model, kept, text, tmp_path):
    rows = [["id", "body"], *([str(each["id"]), each["text"] or ""] for each in made(40))]
    out = io.StringIO()
    csv.writer(out, delimiter=";", lineterminator="\n").writerows(rows)
    path = text(out.getvalue(), "docs.csv")
    filter_documents(bulk_model, [path], tmp_path / "out.csv", Criteria(max_perplexity=7), field="body")
    found = [*csv.reader(io.StringIO((tmp_path / "out.csv").read_text(), newline=""), delimiter=";")]
    expected, _ = kept(text(json_lines(made(40)), "docs.jsonl"), criteria=Criteria(max_perplexity=7))
    assert found[0] == ["id", "body", "perplexity", "bits_per_byte", "tokens"] and len(found) > 3
    assert [row[0] for row in found[1:]] == [str(each["id"]) for each in expected]
    assert [float(row[2]) for row in found[1:]] == [each["perplexity"] for each in expected]
    as_json, _ = kept(path, criteria=Criteria(max_perplexity=7), field="body", format="jsonl")
    assert [each["perplexity"] for each in as_json] == [each["perplexity"] for each in expected]


def test_json_may_become_a_table(bulk_model, corpus, tmp_path):
    filter_documents(bulk_model, [corpus], tmp_path / "out.tsv", Criteria(min_perplexity=5), format="tsv")
    header, *rows = csv.reader(io.StringIO((tmp_path / "out.tsv").read_text(), newline=""), delimiter="\t")
    assert header == ["id", "text", "perplexity", "bits_per_byte", "tokens"]
    assert len(rows) > 5 and all(float(row[2]) >= 5 for row in rows)


def test_plain_text_stays_plain(bulk_model, kept, text, tmp_path):
    path = text("the cat\n\nsat dog\r\n  the\n", "docs.txt")
    found, _ = kept(path, format="jsonl")
    assert [each["text"] for each in found] == ["the cat", "sat dog", "  the"]
    some = found[1]["perplexity"]
    result = filter_documents(bulk_model, [path], tmp_path / "out.txt", Criteria(max_perplexity=some))
    assert (tmp_path / "out.txt").read_text().splitlines() == [
        each["text"] for each in found if each["perplexity"] <= some
    ]
    assert result.missing == 1
    path = text("the cat\nsat\n\n\ndog\n", "paragraphs.txt")
    filter_documents(bulk_model, [path], tmp_path / "out.txt", paragraphs=True)
    assert (tmp_path / "out.txt").read_text() == "the cat\nsat\n\ndog\n\n"
    found, _ = kept(path, format="jsonl", paragraphs=True, field="document")
    assert [each["document"] for each in found] == ["the cat\nsat", "dog"]


@pytest.mark.parametrize("name", ["docs.jsonl", "docs.csv", "docs.txt"])
@pytest.mark.parametrize("criteria", [Criteria(max_perplexity=0), Criteria(keep=0.5), Criteria(bucket=("a", "b"))])
def test_nothing_is_kept_of_nothing(bulk_model, text, tmp_path, name, criteria):
    empty = text("text,n\n" if name.endswith("csv") else "", name)
    format = "jsonl" if criteria.bucket and name.endswith("txt") else None
    result = filter_documents(bulk_model, [empty], tmp_path / "out", criteria, format=format)
    header = "text,n,perplexity,bits_per_byte,tokens" + (",bucket" if criteria.bucket else "")
    assert (tmp_path / "out").read_text() == (f"{header}\n" if name.endswith("csv") else "")
    assert (result.documents, result.kept, result.missing) == (0, 0, 0)
    assert str(result).startswith("0 documents: 0 kept, 0 dropped, 0 without a text\n")


def test_everything_may_be_dropped_or_missing(kept, text, corpus):
    found, result = kept(corpus, criteria=Criteria(max_perplexity=0))
    assert (found, result.kept, result.dropped) == ([], 0, 200 - result.missing)
    found, result = kept(text('{"text": ""}\n' * 30, "missing.jsonl"), criteria=Criteria(keep=0.5, sample=3))
    assert (found, result.documents, result.missing) == ([], 30, 30)
    assert result.lines()[1] == "kept: perplexity at most nan"


def test_probability_zero_is_an_infinite_perplexity(text, tmp_path):
    with np.errstate(divide="ignore"):
        table = np.log(np.tile([0.5, 0, 0.25, 0.25, 0, 0], (6, 1)))
    model = fake_model.write(tmp_path / "zero.onnx", table)
    path = text('{"text": "the sat"}\n{"text": "the"}\n', "a.jsonl")
    filter_documents(model, [path], tmp_path / "out")
    assert [json.loads(line)["perplexity"] for line in (tmp_path / "out").read_text().splitlines()] == [None, 2.8284]
    filter_documents(model, [path], tmp_path / "out", Criteria(min_perplexity=3))
    assert '"the sat"' in (tmp_path / "out").read_text()
    result = filter_documents(model, [path], tmp_path / "out", Criteria(bucket=("a", "b")), format="csv")
    assert (tmp_path / "out").read_text().splitlines()[1:] == ["the sat,inf,inf,3,b", "the,2.8284,0.750000,2,a"]
    assert result.lines()[2].startswith("perplexity: 2.83 (5%)")


def test_a_model_that_gives_no_numbers_is_an_error(text, tmp_path):
    model = fake_model.write(tmp_path / "nan.onnx", np.full((6, 6), np.nan))
    with pytest.raises(KeraslmError, match=r"a\.jsonl:2: the model gives NaN instead of a probability"):
        filter_documents(model, [text('{"text": ""}\n{"text": "cat"}\n', "a.jsonl")], tmp_path / "out")


def test_an_output_appears_when_it_is_complete(bulk_model, kept, text, tmp_path):
    (tmp_path / "out").write_text("old")
    path = text(json_lines(made(100)) + "{\n", "docs.jsonl")
    with pytest.raises(TextError, match=r"docs\.jsonl:101: not a JSON object"):
        filter_documents(bulk_model, [path], tmp_path / "out")
    with pytest.raises(TextError, match=r"docs\.jsonl:101"):
        filter_documents(bulk_model, [path], tmp_path / "x.{bucket}", Criteria(bucket=("a", "b")))
    assert (tmp_path / "out").read_text() == "old"
    assert {entry.name for entry in tmp_path.iterdir()} == {"out", "docs.jsonl"}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_documents_before_a_malformed_one_are_written_to_a_stream(bulk_model, text, capsys, workers):
    path = text(json_lines(made(100)) + "{\n", "docs.jsonl")
    with pytest.raises(TextError, match=r"docs\.jsonl:101"):
        filter_documents(bulk_model, [path], workers=workers)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["id"] == 99


def test_fields_are_not_overwritten(kept, text):
    path = text('{"text": "cat"}\n{"text": "cat", "tokens": 3}\n', "docs.jsonl")
    with pytest.raises(TextError, match=r"docs\.jsonl:2: the input has 'tokens' already. Choose `label`"):
        kept(path)
    assert kept(path, label="lm")[0][1]["tokens"] == 3
    with pytest.raises(TextError, match=r"docs\.csv: the input has 'bits_per_byte' already"):
        kept(text("text,bits_per_byte\n", "docs.csv"))


@pytest.mark.parametrize("criteria", [Criteria(), Criteria(keep=0.5, sample=60)])
def test_documents_are_seen_in_order_and_not_kept_in_memory(bulk_model, corpus, tmp_path, monkeypatch, criteria):
    alive, ids, documents = weakref.WeakSet(), [], driver.Documents.__iter__
    counts = []

    def counted(self):
        for document in documents(self):
            alive.add(document)
            yield document

    monkeypatch.setattr(driver.Documents, "__iter__", counted)
    monkeypatch.setattr(driver.Document, "__hash__", object.__hash__)

    def seen(judged):
        ids.append(judged.document.record.value("id"))
        counts.append(len(alive))

    filter_documents(bulk_model, [corpus], tmp_path / "out", criteria, workers=2, seen=seen)
    assert ids == [*range(200)]
    few = 7 * 8  # two batches per process, one that is written, one that is read, and what is not yet collected
    assert max(counts) < few + (60 if criteria.needs_sample else 0)
    assert max(counts[150:]) < few


def test_settings_that_contradict_each_other_are_refused(bulk_model, corpus, text, tmp_path, monkeypatch):
    plain = text("the\n", "a.txt")
    buckets = Criteria(bucket=("a", "b"))
    cases = [
        ({"format": "text"}, "`format` is text, but the documents are jsonl"),
        ({"format": "xml"}, "`format` is 'xml', but must be one of"),
        ({"output": tmp_path / "{bucket}"}, r"`output` has \{bucket\} in its name: name the buckets"),
        ({"files": [plain], "criteria": buckets}, "Plain text has no field for a bucket"),
        ({"workers": 0}, "`workers` is 0"),
        ({"errors": "ignore"}, "`errors` is 'ignore'"),
        ({"criteria": {"keep": 1}}, "`criteria` is .*, but Criteria is expected"),
        ({"label": ""}, "`label` is empty"),
        ({"output": corpus}, "this output would overwrite the input"),
        ({"output": bulk_model}, "this output would overwrite the input"),
        ({"output": tmp_path / "x", "histogram": tmp_path / "x"}, "`output` and `histogram` are the same file"),
        ({"histogram": tmp_path / "none" / "x.png"}, "give the name of a file in a folder that exists"),
    ]
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for arguments, words in cases:
        with pytest.raises(UsageError, match=words):
            filter_documents(bulk_model, **{"files": [corpus], "output": tmp_path / "out", **arguments})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r'pip install "keraslm\[plot\]"'):
        filter_documents(bulk_model, [corpus], histogram=tmp_path / "x.png")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_invalid_bytes_are_counted_per_file(kept, text):
    path, notes = text(b'{"text": "cat \xff"}\n{"text": "cat"}\n', "docs.jsonl"), []
    with pytest.raises(TextError, match=r"docs\.jsonl:1:15: byte 0xff is not valid UTF-8"):
        kept(path)
    found, _ = kept(path, errors="replace", log=notes.append)
    assert found[0]["text"] == "cat \ufffd" and notes[0].endswith("1 lines contained invalid UTF-8, read as U+FFFD")
    assert notes[1] == "2 documents: 2 kept, 0 dropped, 0 without a text" and len(notes) == 5  # half of it is unknown


def test_the_histogram_is_that_of_the_documents(kept, corpus, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    drawn = []
    monkeypatch.setattr(driver, "draw_histogram", lambda *arguments: drawn.append(arguments))
    _, result = kept(corpus, criteria=Criteria(keep=0.5), histogram=tmp_path / "h.png")
    ((path, counts, edges, marks),) = drawn
    assert (path, marks) == (tmp_path / "h.png", list(result.rule.thresholds))
    perplexities = [each["perplexity"] for each in kept(corpus)[0]]
    np.testing.assert_array_equal(counts, np.histogram(np.log10(perplexities), edges)[0])
