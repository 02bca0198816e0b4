"""A translation system is trained by `fit()` into a run folder, resumes bit for bit, and is evaluated by BLEU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sacrebleu

from examples.translation.config import TranslationConfig
from examples.translation.data import read_corpus
from examples.translation.run import TranslationRun, bleu, evaluate_run, texts_of, translate
from examples.translation.search import Hypothesis, Search
from examples.translation.toy import in_words, write_toy
from examples.translation.train import train
from keraslm.errors import ConfigError, Interrupted, RunError, TextError
from keraslm.runs.run import Run
from tests.support.resuming import assert_same, signal_at

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    write_toy(folder, "reverse", pairs=60)
    for split, size in (("valid", 12), ("test", 12)):
        for suffix in ("in", "out"):
            path = folder / f"{split}.{suffix}"
            path.write_text("".join(path.read_text().splitlines(keepends=True)[:size]))
    return folder


@pytest.fixture(scope="module")
def settings(texts):
    return TranslationConfig().replace(
        **{"train": str(texts / "train"), "valid": str(texts / "valid"), "source": "in", "target": "out"},
        **{"vocabulary": "word", "min_count": 1, "bucket_width": 10, "bleu": "none"},
        **{"units": 8, "batch_size": 16, "epochs": 3, "checkpoint_windows": 2, "learning_rate": 0.02, "log_every": 2},
    )


def quietly(config, path, **options):
    lines = []
    return train(config, path, verbose=0, log=lines.append, **options), lines


@pytest.fixture(scope="module")
def trained(settings, tmp_path_factory):
    return quietly(settings, tmp_path_factory.mktemp("trained") / "run")[0]


def test_a_training_that_is_stopped_again_and_again_ends_bit_for_bit_the_same(settings, trained, tmp_path):
    batches, path = len(read_corpus(settings, lambda _: None).train), tmp_path / "run"
    for moment in [(0, 0, None), (0, None, 0), (1, batches - 1, None), (1, None, None), (2, 1, None)]:
        with (
            signal_at(*moment),
            pytest.raises(Interrupted, match=r"Resume with: python -m examples\.translation train"),
        ):
            quietly(settings, path)
    run, lines = quietly(settings, path, resume="must")
    assert any("resuming after window" in line for line in lines)
    assert_same(run, trained)


def test_each_epoch_is_validated_by_perplexity_and_bleu_and_the_best_weights_are_kept(settings, trained):
    rows = trained.epochs()
    assert len(rows) == 3 and all({"perplexity", "val_perplexity", "val_bleu"} <= row.keys() for row in rows)
    best = TranslationRun.open(trained.path, "best")
    assert best.trained_epoch()["val_bleu"] == max(row["val_bleu"] for row in rows)
    corpus = read_corpus(settings, lambda _: None, trained.tokenizer)
    found = translate(trained.network, settings, trained.tokenizer, corpus.lines[0], Search())
    score, _ = bleu(
        texts_of([one for one, *_ in found], corpus.lines[0], settings, trained.tokenizer), corpus.lines[1], "none"
    )
    assert score == pytest.approx(rows[-1]["val_bleu"], abs=1e-9)


def test_the_row_with_the_highest_bleu_is_the_best(trained):
    rows = [{"val_bleu": 0.0}, {"val_bleu": 3.5, "val_perplexity": 90.0}, {"val_bleu": 3.4, "val_perplexity": 10.0}, {}]
    assert sorted(rows, key=trained.validation_cost) == [rows[1], rows[2], rows[0], rows[3]]


def test_a_finished_run_is_left_alone_and_other_settings_are_refused(settings, trained):
    _, lines = quietly(settings, trained.path)
    assert "all 3 epochs are finished" in lines[-1]
    for changes, message in [({"units": 10}, "`units` is 8, not 10"), ({"epochs": 4}, "`epochs` is 3, not 4")]:
        with pytest.raises(ConfigError, match=message):
            quietly(settings.replace(**changes), trained.path)
    with pytest.raises(RunError, match="already holds a run"):
        quietly(settings, trained.path, resume="never")


def test_a_run_with_different_texts_is_not_resumed(settings, trained, texts, tmp_path):
    for suffix in ("in", "out"):
        lines = (texts / f"train.{suffix}").read_text().splitlines(keepends=True)
        (tmp_path / f"train.{suffix}").write_text("".join(lines[1:]))
    with pytest.raises(TextError, match="created with a different training text"):
        quietly(settings.replace(train=str(tmp_path / "train")), trained.path)


def test_the_run_of_a_language_model_and_that_of_a_translation_system_are_not_confused(trained, trained_run):
    with pytest.raises(RunError, match="Unknown configuration field"):
        Run.open(trained.path)
    with pytest.raises(RunError, match="Unknown configuration field"):
        TranslationRun.open(trained_run.path)


def test_evaluation_prints_bleu_with_its_signature_and_writes_the_translations(trained, texts, tmp_path, capsys):
    score, exact = evaluate_run(trained, texts / "test", 2, 1.0, tmp_path / "out.txt")
    found, references = (path.read_text().splitlines() for path in (tmp_path / "out.txt", texts / "test.out"))
    expected = sacrebleu.corpus_bleu(found, [references], tokenize="none", force=True).score
    assert score == pytest.approx(expected) and exact == np.mean(
        [a == b for a, b in zip(found, references, strict=True)]
    )
    printed = capsys.readouterr().out
    assert f"BLEU      {score:.2f} nrefs:1|case:mixed|eff:no|tok:none|smooth:exp|version:" in printed


def test_unknown_words_are_replaced_by_the_source_word_with_the_largest_weight(settings, trained):
    tokenizer = trained.tokenizer
    known = tokenizer.target.encode_lines(["ba"])[0][0]
    hypothesis = Hypothesis([tokenizer.target.unk_id, known, tokenizer.target.unk_id], 0.0, 0.0, [1, 0, 7], True)
    for reverse, expected in ((False, "Zürich ba <unk>"), (True, "bu ba <unk>")):
        own = settings.replace(reverse_source=reverse)
        assert texts_of([hypothesis], ["du  Zürich bu xu" if not reverse else "du Zürich bu xu"], own, tokenizer) == [
            expected
        ]


def test_attention_and_curves_are_drawn(trained, tmp_path):
    pictures = pytest.importorskip("examples.translation.pictures")
    pictures.draw_attention(trained, "ba be bi", tmp_path / "attention.png")
    pictures.draw_curves([trained.metrics_path, trained.metrics_path], tmp_path / "curves.png")
    for name in ("attention", "curves"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (40, "forty"),
        (99, "ninety nine"),
        (100, "one hundred"),
        (90_017, "ninety thousand seventeen"),
        (999_999, "nine hundred ninety nine thousand nine hundred ninety nine"),
    ],
)
def test_numbers_in_words(number, words):
    assert in_words(number) == words


@pytest.mark.parametrize("task", ["reverse", "numbers"])
def test_the_texts_of_a_toy_task_share_no_pair(task, tmp_path):
    write_toy(tmp_path, task, pairs=500)
    splits = [
        set(zip(*((tmp_path / f"{split}.{suffix}").read_text().splitlines() for suffix in ("in", "out")), strict=True))
        for split in ("train", "valid", "test")
    ]
    assert [len(split) for split in splits] == [500, 500, 500]
    assert len(set.union(*splits)) == 1500
    environment = {**os.environ, "PYTHONHASHSEED": "7"}  # another order of sets
    call = f"write_toy(Path({str(tmp_path / 'again')!r}), {task!r}, 500)"
    program = f"from pathlib import Path; from examples.translation.toy import write_toy; {call}"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True)
    assert (tmp_path / "again" / "train.in").read_bytes() == (tmp_path / "train.in").read_bytes()
    for source, target in splits[0]:
        words = source.split(" ")
        assert target == (in_words(int("".join(words))) if task == "numbers" else " ".join(words[::-1]))


def test_the_toy_command_learns_to_reverse_sequences(tmp_path, backend):
    if backend != "jax":
        pytest.skip("the first command of the example runs on JAX")
    command = [sys.executable, "-m", "examples.translation", "toy", "--run", str(tmp_path / "toy")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    exact = next(line for line in done.stdout.splitlines() if line.startswith("exact"))
    assert float(exact.split()[1]) >= 95.0


def test_wrong_use_is_explained_in_a_sentence(tmp_path):
    for arguments, message in [
        (["train", "--run", "x", "--unit", "3"], "translation: Unknown option: --unit. Did you mean --units?"),
        (
            ["train", "--run", str(tmp_path / "x")],
            "needs the prefixes of training and validation texts: --train, --valid",
        ),
        (["evaluate", str(tmp_path), "text"], "config.json is missing"),
    ]:
        command = [sys.executable, "-m", "examples.translation", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
