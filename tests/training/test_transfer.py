"""More words, frozen layers and pretrained embeddings in a training."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

import keraslm
from keraslm.errors import TokenizerError
from keraslm.network.parts import SeededUniform
from keraslm.runs.run import Run
from tests.reference.text import made_up_lines
from tests.support.made_run import make_run
from tests.support.resuming import quietly
from tests.support.starting import STILL, train

pytestmark = pytest.mark.usefixtures("own_folder")

# Vocabulary


@pytest.mark.parametrize("softmax", ["full", "tied", "sampled", "mixture"])
def test_new_words_start_from_the_mean_and_old_ids_stay(tmp_path, new_text, softmax):
    kinds = {"full": {}, "tied": {"tie_weights": True, "units": 5, "embedding_dim": 5}}
    kinds |= {"sampled": {"softmax": "sampled", "num_sampled": 4}, "mixture": {"softmax": "mixture", "num_experts": 2}}
    sizes = {"units": 4, "num_layers": 1, "batch_size": 2, "num_steps": 4, "epochs": 1, "min_count": 2}
    source = make_run(tmp_path, made_up_lines(60, 1), **(sizes | kinds[softmax]))
    old, weights = source.tokenizer, source.read_weights()
    run, lines = train(init_from=source.path, run="new", extend_vocab=5, **new_text, **STILL)
    new, grown = run.tokenizer, run.read_weights()
    assert new.tokens(range(old.vocab_size)) == old.tokens(range(old.vocab_size))
    words = [word for line in new_text["train"].read_text().splitlines() for word in line.split()]
    expected = sorted({"fresh", "rarer"}, key=lambda word: (-words.count(word), word))
    assert new.tokens(range(old.vocab_size, new.vocab_size)) == expected
    assert f"tokens    {new.vocab_size:,} in the vocabulary: from {source.path}, and 2 new ones of" in lines[1]
    added = {"embedding/embeddings": 0, "logits/bias": 0, "logits/kernel": 0 if softmax == "sampled" else 1}
    for name, value in weights.items():
        value = value.astype(np.float64)
        if name in added:
            axis = added[name]
            mean = sum(np.split(value, value.shape[axis], axis)) / value.shape[axis]
            value = np.concatenate([value, mean, mean], axis)
        np.testing.assert_allclose(grown[name], value, rtol=1e-6, atol=1e-9)
    assert run.origin["new_words"] == 2


def test_new_words_take_no_more_than_their_share_of_any_distribution(tmp_path, new_text):
    """The bound of Hewitt 2021: at most N / (V + N), and here the geometric mean of the old words before that."""
    source = make_run(tmp_path, made_up_lines(60, 1), units=4, num_layers=1, batch_size=2, num_steps=4, epochs=1)
    run, _ = train(init_from=source.path, run="new", extend_vocab=2, **new_text, **STILL)
    ids = np.random.default_rng(0).integers(0, source.tokenizer.vocab_size, (1, 40)).astype(np.int32)
    old, new = (np.asarray(keraslm.load_model(each).predict_on_batch(ids)[0], np.float64) for each in (source, run))
    p, q = (np.exp(x - np.logaddexp.reduce(x, -1, keepdims=True)) for x in (old, new))
    size = p.shape[-1]
    assert (q[:, size:].sum(-1) <= 2 / (size + 2)).all()
    np.testing.assert_allclose(q[:, size] / (1 - q[:, size:].sum(-1)), np.exp(np.log(p).mean(-1)), rtol=1e-4)
    np.testing.assert_allclose(q[:, :size] / q[:, :size].sum(-1, keepdims=True), p, rtol=1e-4)


def test_characters_are_added_too(tmp_path):
    source = make_run(tmp_path, ["abc"], tokenizer="char", units=4, num_layers=1, batch_size=2, num_steps=4, epochs=1)
    text = tmp_path / "text.txt"
    text.write_text("abc日é日 d\n" * 9)
    run, _ = train(init_from=source.path, run="new", extend_vocab=2, train=text)
    assert run.tokenizer.tokens(range(source.tokenizer.vocab_size, run.tokenizer.vocab_size)) == ["日", " "]
    assert keraslm.train(run="new", verbose=0, log=lambda _: None).tokenizer.digest == run.tokenizer.digest


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"softmax": "adaptive", "cutoffs": (3,)}, "An adaptive softmax has its words in clusters"),
        ({"tokenizer": "byte"}, "The tokenizer byte cannot be extended: it represents every text already"),
        ({"tokenizer": "unigram", "vocab_size": 30}, "The tokenizer unigram cannot be extended: more subwords"),
    ],
)
def test_what_cannot_be_extended_is_refused(tmp_path, new_text, fields, message):
    source = make_run(tmp_path, made_up_lines(60, 1), units=4, num_layers=1, **fields)
    with pytest.raises(TokenizerError, match=message):
        train(init_from=source.path, run="new", extend_vocab=2, **new_text)
    assert not Path("new").exists()


# Frozen layers


@pytest.mark.parametrize("tied", [False, True])
def test_frozen_weights_keep_their_bits_and_the_others_move(source, tmp_path, tied):
    if tied:
        fields = {"tie_weights": True, "embedding_dim": 6}
        source, _ = quietly(source.config.replace(epochs=1, **fields), tmp_path / "tied")
    more = {"weight_decay": 0.1, "keep_weights": 2, "save_at_words": (100,)}
    frozen = ("embedding/embeddings", "lstm_0/kernel")
    run, lines = train(init_from=source.path, run="new", freeze="embedding,lstm_0/kernel", epochs=1, **more)
    before = source.read_weights()
    for path in (run.weights_path, run.best_weights_path, *run.kept_weights().values(), run.at_words_path(100)):
        for name, value in run.read_weights(path).items():
            assert (value.tobytes() == before[name].tobytes()) == (name in frozen), name
    sizes = {name: value.size for name, value in before.items()}
    fixed = sum(sizes[name] for name in frozen)
    assert f"model     {sum(sizes.values()):,} parameters, {fixed:,} of them not trained" in lines


# Pretrained embeddings


@pytest.mark.parametrize("tied", [False, True])
def test_pretrained_vectors_replace_the_rows_of_their_words(config, tmp_path, text_files, tied):
    vectors = {"word3": [0.5, -1, 2, 0, 0.25, 9], "word5": [1, 2, 3, 4, 5, 6], "absent": [0, 0, 0, 0, 0, 0]}
    file = tmp_path / "vectors.txt"
    file.write_text("".join(f"{word} {' '.join(map(str, row))}\n" for word, row in vectors.items()))
    changes = {"embeddings": file, "freeze": "embedding", "epochs": 1, "num_layers": 1, "tie_weights": tied}
    run, lines = quietly(config.replace(**changes, embedding_dim=6), "new")
    table = run.read_weights()["embedding/embeddings"]
    expected = np.array(SeededUniform(0.5, 3, "embedding/embeddings")(table.shape, "float32").__array__())
    ids = {word: run.tokenizer.encode_lines([word])[0][0] for word in ("word3", "word5")}
    for word, number in ids.items():
        expected[number] = vectors[word]
    assert np.array_equal(table, expected)
    words = text_files[0].read_text().split()
    share = sum(word in vectors for word in words) / len(words)
    line = (
        f"initial   embeddings of 2 of {run.tokenizer.vocab_size} tokens from {file}, {share:.1%} of the tokens in the "
        f"lines of {text_files[0]}"
    )
    assert line in lines
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert Run.open("new").origin == {"embeddings": {"file": str(file), "sha256": digest, "words": 2}}
    file.unlink()
    quietly(config.replace(**changes, embedding_dim=6).replace(epochs=2), "new")  # resumed without the file
