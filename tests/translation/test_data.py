import bz2
import gzip
import lzma

import numpy as np
import pytest
import zstandard

from examples.translation.config import ParallelData, TranslationConfig, TranslationModel
from examples.translation.data import PairBatches, Vocabularies, read_corpus, read_pairs
from keraslm.errors import ConfigError, TextError, TokenizerError, UsageError

ENGLISH = ["the cat sat", "a dog ran here", "the dog sat", "the cat ran"]
GERMAN = ["die Katze saß", "ein Hund lief hier", "der Hund saß", "die Katze lief"]
TEXTS = ["".join(f"{line}\n" for line in lines) for lines in (ENGLISH, GERMAN)]


@pytest.fixture
def pair(tmp_path):
    """Write the texts of a pair of languages and return their prefix."""

    def write(english=TEXTS[0], german=TEXTS[1], name="train"):
        for suffix, content in (("en", english), ("de", german)):
            content = content if isinstance(content, bytes) else content.encode()
            (tmp_path / f"{name}.{suffix}").write_bytes(content)
        return tmp_path / name

    return write


# Files


def test_both_texts_are_read_line_by_line(pair):
    assert read_pairs(ParallelData(), pair()) == (ENGLISH, GERMAN)
    swapped = ParallelData(source="de", target="en")
    assert read_pairs(swapped, pair()) == (GERMAN, ENGLISH)


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zst", zstandard.compress)],
)
def test_compressed_files_are_read(pair, suffix, pack):
    prefix = pair()
    plain = prefix.with_suffix(".de")
    prefix.with_suffix(f".de.{suffix}").write_bytes(pack(plain.read_bytes()))
    plain.unlink()
    assert read_pairs(ParallelData(), prefix) == (ENGLISH, GERMAN)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"english": "a\nb\nc\n", "german": "a\n"}, "{en}:2: has no translation; {de} has only 1 lines"),
        ({"english": "a\n", "german": "a\nb\n"}, "{de}:2: has no translation; {en} has only 1 lines"),
        ({"english": "a\n\nb\n", "german": "a\nb\nc\n"}, "{en}:2: the line is empty"),
        ({"english": "a\nb\n", "german": "a\n \t\n"}, "{de}:2: the line is empty"),
        ({"english": "", "german": ""}, "{en}: the text is empty"),
        ({"english": "a\nb\n", "german": b"a\nb\xff\n"}, "{de}:2:2: byte 0xff is not valid UTF-8"),
    ],
    ids=["long source", "long target", "empty", "blank", "no line", "bytes"],
)
def test_faults_of_the_texts_are_reported_with_file_and_line(pair, texts, message):
    prefix = pair(**texts)
    with pytest.raises(TextError) as caught:
        read_pairs(ParallelData(), prefix)
    assert str(caught.value).startswith(message.format(en=f"{prefix}.en", de=f"{prefix}.de"))


def test_each_text_is_one_file(pair):
    prefix = pair()
    plain, packed = (prefix.with_suffix(suffix) for suffix in (".de", ".de.gz"))
    packed.write_bytes(gzip.compress(b"a\n"))
    with pytest.raises(TextError) as caught:
        read_pairs(ParallelData(), prefix)
    assert str(caught.value).startswith(f"{plain}: several such files, plain or compressed.")
    for path in (plain, packed):
        path.unlink()
    with pytest.raises(TextError) as caught:
        read_pairs(ParallelData(), prefix)
    assert str(caught.value).startswith(f"{plain}: no such file, plain or compressed.")


# Vocabularies


def vocabularies(kind, **options):
    return Vocabularies.train(ENGLISH, GERMAN, ParallelData(vocabulary=kind, min_count=1, **options))


def test_subwords_have_one_tokenizer_for_both_languages():
    found = vocabularies("bpe", vocab_size=280)
    assert found.source is found.target
    assert found.vocab_size == found.target.vocab_size == 280
    for line, ids in zip([*ENGLISH, *GERMAN], found.source.encode_lines([*ENGLISH, *GERMAN]), strict=True):
        assert found.target.decode(ids[:-1]) == line
        assert ids[-1] == found.target.eos_id


def test_words_have_a_tokenizer_for_each_language():
    found = vocabularies("word")
    words = [{word for line in lines for word in line.split()} for lines in (ENGLISH, GERMAN)]
    for tokenizer, known in zip((found.source, found.target), words, strict=True):
        assert set(tokenizer.tokens(range(tokenizer.vocab_size))) == {*known, "<unk>", "<eos>"}
    assert found.vocab_size == len(words[1]) + 2


@pytest.mark.parametrize("kind", ["bpe", "word"])
def test_lowercase_applies_to_both_languages(kind):
    found = vocabularies(kind, lowercase=True)
    for tokenizer, line in ((found.source, "THE CAT SAT"), (found.target, "DIE KATZE lief")):
        both = tokenizer.encode_lines([line, line.lower()])
        np.testing.assert_array_equal(*both)
        assert tokenizer.unk_id not in both[0]


@pytest.mark.parametrize("kind", ["bpe", "word"])
def test_vocabularies_are_restored_from_json(kind):
    found = vocabularies(kind)
    again = Vocabularies.from_json(found.to_json())
    assert again.to_json() == found.to_json()
    for one, other in ((again.source, found.source), (again.target, found.target)):
        assert one.digest == other.digest
        for ids, expected in zip(one.encode_lines(GERMAN), other.encode_lines(GERMAN), strict=True):
            np.testing.assert_array_equal(ids, expected)


@pytest.mark.parametrize("kind", ["bpe", "word"])
def test_a_reversed_source_keeps_the_end_symbol_last(kind):
    found, lines = vocabularies(kind), [*ENGLISH, "cat", ""]
    plain, turned = (found.encode_source(lines, reverse) for reverse in (False, True))
    for ids, reverse in zip(plain, turned, strict=True):
        assert reverse.dtype == np.int32
        assert reverse.tolist() == [*ids[:-1].tolist()[::-1], found.source.eos_id]
    source, target = found.encode_pairs(ENGLISH, GERMAN, True)
    assert [ids.tolist() for ids in source] == [ids.tolist() for ids in turned[:4]]
    assert [ids.tolist() for ids in target] == [ids.tolist() for ids in found.target.encode_lines(GERMAN)]


# Batches

EOS, ROWS, WIDTH = 1, 4, 3


def sentences(seed, count):
    """Sentences of 0 to 9 tokens; the first token of sentence n is 100 + n."""
    draw = np.random.default_rng(seed)
    return [np.array([100 + n, *draw.integers(2, 50, draw.integers(0, 9)), EOS], np.int32) for n in range(count)]


SOURCE, TARGET = sentences(1, 30), sentences(2, 30)


def epoch_of(batches, epoch):
    """The batches of an epoch: source, lengths, targets, weights."""
    batches.set_epoch(epoch)
    return [batches.example(number) for number in range(len(batches))]


def pairs_of(examples):
    """The pairs in all batches, as lists of ids, in order."""
    found = []
    for (source, lengths, targets, _), _, weights in examples:
        known = (weights > 0).sum(axis=1)
        found += [
            (source[row, : lengths[row]].tolist(), targets[row, : known[row]].tolist())
            for row in range(ROWS)
            if known[row]
        ]
    return found


EXPECTED = sorted((a.tolist(), b.tolist()) for a, b in zip(SOURCE, TARGET, strict=True))


@pytest.mark.parametrize("seed", [None, 0, 7])
def test_each_epoch_holds_each_pair_once(seed):
    batches = PairBatches(SOURCE, TARGET, ROWS, WIDTH, seed)
    assert len(batches) == 8
    for epoch in range(3):
        assert sorted(pairs_of(epoch_of(batches, epoch))) == EXPECTED


def test_the_order_depends_on_the_seed_and_the_epoch_only():
    def order(seed, epoch, before=()):
        batches = PairBatches(SOURCE, TARGET, ROWS, WIDTH, seed)
        for other in before:
            batches.set_epoch(other)
        return pairs_of(epoch_of(batches, epoch))

    assert order(3, 2) == order(3, 2, before=(5, 0))
    orders = [order(seed, epoch) for seed in (3, 4) for epoch in (0, 1, 2)]
    assert all(orders[a] != orders[b] for a in range(6) for b in range(a))
    assert order(None, 0) == order(None, 4)


def test_a_new_batch_set_starts_with_epoch_0():
    batches = PairBatches(SOURCE, TARGET, ROWS, WIDTH, 3)
    first = [batches.example(number) for number in range(len(batches))]
    assert pairs_of(first) == pairs_of(epoch_of(batches, 0))


def test_batches_hold_other_pairs_in_another_epoch():
    batches = PairBatches(SOURCE, TARGET, ROWS, WIDTH, 3)
    first, second = (
        {frozenset(source[0] for source, _ in pairs_of([example])) for example in epoch_of(batches, epoch)}
        for epoch in (0, 1)
    )
    assert len(first & second) < len(batches) / 2


def test_without_a_seed_pairs_keep_their_order_within_a_bucket():
    batches = PairBatches(SOURCE, TARGET, ROWS, WIDTH)
    widths = [-(-max(len(a), len(b)) // WIDTH) for a, b in zip(SOURCE, TARGET, strict=True)]
    expected = [number for width in sorted(set(widths)) for number in range(30) if widths[number] == width]
    assert [source[0] - 100 for source, _ in pairs_of(epoch_of(batches, 0))] == expected


@pytest.mark.parametrize("seed", [None, 5])
def test_shapes_padding_and_weights(seed):
    batches = PairBatches(SOURCE, TARGET, ROWS, WIDTH, seed)
    examples = epoch_of(batches, 1)
    for number, ((source, lengths, targets, weights), again, sample_weight) in enumerate(examples):
        width = source.shape[1]
        assert width % WIDTH == 0 and width == batches.lengths[number]
        assert source.shape == targets.shape == weights.shape == (ROWS, width)
        assert lengths.shape == (ROWS,) and lengths.min() >= 1
        assert (source.dtype, lengths.dtype, targets.dtype, weights.dtype) == (*[np.int32] * 3, np.float32)
        assert again is targets and sample_weight is weights
        known = (weights > 0).sum(axis=1)
        assert width - WIDTH < max(lengths.max(), known.max()) <= width
        for row in range(ROWS):
            assert not source[row, lengths[row] :].any() and not targets[row, known[row] :].any()
            np.testing.assert_array_equal(weights[row], np.where(np.arange(width) < known[row], 0.25, 0.0))
            if known[row]:
                assert source[row, lengths[row] - 1] == targets[row, known[row] - 1] == EOS
            else:
                assert lengths[row] == 1 and not source[row].any()
    tokens = sum(map(len, TARGET))
    assert batches.predicted == tokens
    assert sum(weights.sum() for _, _, weights in examples) == tokens / ROWS
    assert sum((weights.sum(axis=1) == 0).sum() for _, _, weights in examples) == 8 * ROWS - 30


def test_a_batch_of_all_pairs_may_have_more_rows_than_pairs():
    batches = PairBatches(SOURCE[:2], TARGET[:2], 64, 50, 1)
    (source, *_), _, weights = batches.example(0)
    assert len(batches) == 1 and source.shape == (64, 50)
    assert weights.sum() * 64 == sum(map(len, TARGET[:2]))


# The corpus of a configuration


def corpus_config(prefix, **fields):
    options = {"train": str(prefix), "valid": str(prefix), "vocabulary": "word", "min_count": 1, "batch_size": 2}
    return TranslationConfig().replace(**options, **fields)


def test_long_pairs_are_left_out_of_the_training_only(pair):
    lines = []
    corpus = read_corpus(corpus_config(pair(), max_length=3, reverse_source=True), lines.append)
    assert (len(corpus.train.source), len(corpus.valid.source)) == (3, 4)
    assert corpus.lines == (ENGLISH, GERMAN)
    assert any("4 pairs, 1 of them too long; 12 target tokens" in line for line in lines)
    first = corpus.train.source[0]
    assert corpus.tokenizer.source.tokens(first) == ["sat", "cat", "the", "<eos>"]
    assert corpus.fingerprints.keys() == {"train", "valid"}


def test_a_resumed_run_keeps_its_vocabularies(pair):
    prefix = pair()
    known = vocabularies("word")
    pair("new words\n", "neue Wörter\n")
    corpus = read_corpus(corpus_config(prefix), lambda line: None, known)
    assert corpus.tokenizer is known
    assert corpus.train.target[0].tolist() == [known.target.unk_id] * 2 + [known.target.eos_id]


def test_faults_of_a_corpus(pair):
    with pytest.raises(UsageError, match="`train`, `valid`"):
        read_corpus(TranslationConfig(), lambda line: None)
    with pytest.raises(TextError, match=r"no pair has at most 2 tokens per sentence \(`max_length`\)"):
        read_corpus(corpus_config(pair(), max_length=2), lambda line: None)


# The configuration


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ParallelData(source="de"), "`source` and `target` are both 'de'"),
        (lambda: TranslationModel(units=8, embedding_size=6), "`tie_weights` needs embeddings of 8 units"),
        (lambda: TranslationModel(units=7), "`units` is 7, but must be even"),
        (lambda: TranslationModel(attention="other"), "`attention` is 'other', but must be one of none, luong"),
        (lambda: TranslationModel(decoder_dropout=1.0), "`decoder_dropout` is 1.0"),
        (lambda: TranslationModel(label_smoothing=-0.1), "`label_smoothing` is -0.1"),
        (lambda: TranslationModel(init_scale=0.0), "`init_scale` is 0.0"),
        (lambda: TranslationModel(num_layers=0), "`num_layers` is 0"),
        (lambda: ParallelData(bucket_width=0), "`bucket_width` is 0"),
        (lambda: ParallelData(vocabulary="char"), "`vocabulary` is 'char'"),
        (lambda: TranslationConfig().replace(unknown=1), "Unknown configuration field 'unknown'"),
        (lambda: TranslationConfig().replace(num_steps=35), "`num_steps` has no effect on a translation system"),
    ],
)
def test_a_wrong_configuration_is_refused(build, message):
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value).startswith(message)


def test_allowed_configurations():
    assert TranslationModel(units=8, embedding_size=6, tie_weights=False).embeddings == 6
    assert TranslationModel(units=8).embeddings == TranslationModel(units=8, embedding_size=8).embeddings == 8
    assert TranslationModel(units=7, bidirectional=False).units == 7
    config = TranslationConfig().replace(units=8, source="fr", seed=5)
    assert TranslationConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"source": 1, "target": 2}'])
def test_damaged_vocabularies_are_refused_with_the_name_of_the_file(text):
    with pytest.raises(TokenizerError, match=r"^runs/x/tokenizer\.json"):
        Vocabularies.from_json(text, "runs/x/tokenizer.json")
