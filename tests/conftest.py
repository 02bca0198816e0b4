"""Fixtures of all tests: the backend of this process, small texts, a trained run, and model files without Keras."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from keraslm import load
from keraslm.system.backend import select_backend
from tests.support import fake_model
from tests.support.bulk import FOLDER

BACKEND = select_backend()  # before anything imports Keras

pytest_plugins = ("tests.support.program", "tests.support.resuming", "tests.support.starting", "tests.support.tiny")

# Tests that compute nothing on the Keras backend of their process, or only what others compute on each backend
# (`cli/test_modes.py` trains, exports and scores). They run on the first backend only.
FOLDERS_WITHOUT_BACKEND = """
    bulk clients config docs export filtering lattices ngram packaging pictures report rescoring scoring server
    structure
"""
FILES_WITHOUT_BACKEND = {
    "cli": """
        caching ensemble export filter generate lattice mixing model_faults outputs pairs predict public_names rescore
        run_faults score score_formats surroundings tables targets texts tokenize
    """,
    "evaluation": "options",
    "runs": "checkpoint initial",
    "system": "atomic locks processes ranks progress signals terminal",
    "text": """
        corpus decoding embeddings encoding encodings held_out importing lines modes paths records regions rows stream
        tokenizer weights window_lengths
    """,
    "training": "disk_faults rows unknown",
    "translation": "data search",
}


def without_backend() -> set[Path]:
    """Folders and files of those tests."""
    root = Path(__file__).parent
    files = {root / place / f"test_{n}.py" for place, names in FILES_WITHOUT_BACKEND.items() for n in names.split()}
    return files | {root / place for place in FOLDERS_WITHOUT_BACKEND.split()}


def pytest_addoption(parser):
    parser.addoption("--backend-only", action="store_true", help="skip tests that compute nothing on a Keras backend")


def pytest_ignore_collect(collection_path, config):
    return True if config.getoption("--backend-only") and collection_path in without_backend() else None


# Tests neither read nor write the user's cache.
_cache = tempfile.TemporaryDirectory()
os.environ["KERASLM_CACHE"] = _cache.name

# The suite trains the same small networks repeatedly; JAX compiles each of them once. Each process has its own cache,
# because a process that is killed while it writes would leave an incomplete entry.
if BACKEND == "jax":
    import jax

    _compiled = tempfile.TemporaryDirectory()
    jax.config.update("jax_compilation_cache_dir", _compiled.name)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# No deadline: the machine may be loaded. No database: a failing example is printed, and nothing is written to the disk.
settings.register_profile("keraslm", deadline=None, database=None, derandomize=True, max_examples=60)
settings.load_profile("keraslm")


@pytest.fixture
def backend() -> str:
    return BACKEND


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of corpora beside some checkouts; it is in no repository."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside this checkout: the corpora for this test are not here")
    return folder


@pytest.fixture(scope="session")
def text_files(tmp_path_factory):
    """Paths of a small training and a small validation text."""
    from tests.reference.text import write_text

    folder = tmp_path_factory.mktemp("texts")
    return write_text(folder / "train.txt", lines=60, seed=1), write_text(folder / "valid.txt", lines=12, seed=2)


@pytest.fixture(scope="session")
def config(text_files):
    """A tiny configuration of these texts, with every kind of dropout."""
    from keraslm.config import Config

    train, valid = text_files
    return Config().replace(
        train=str(train),
        valid=str(valid),
        num_layers=2,
        units=6,
        embedding_dim=5,
        init_scale=0.5,
        embedding_dropout=0.1,
        recurrent_dropout=0.1,
        output_dropout=0.1,
        batch_size=4,
        num_steps=5,
        epochs=3,
        learning_rate=1.0,
        lr_decay_from=2,
        log_every=5,
        seed=3,
    )


@pytest.fixture(scope="session")
def corpus(config):
    """Tokenizer, training windows and validation windows of the tiny configuration."""
    from keraslm.text.files import TextFile
    from keraslm.text.stream import Windows
    from tests.support.words import encode_text, train_words

    train, valid = TextFile(config.data.train[0]), TextFile(config.data.valid[0])
    tokenizer = train_words(train)
    sizes = config.train.batch_size, config.train.num_steps
    return (tokenizer, *(Windows(encode_text(tokenizer, text), *sizes) for text in (train, valid)))


@pytest.fixture
def standing_model(config, corpus):
    """A model without dropout whose weights `fit` does not change, so that NumPy can compute its states and losses."""
    import keras

    from keraslm.network.losses import SequenceLoss
    from keraslm.network.model import build_model, nats_model

    changed = config.replace(embedding_dropout=0, recurrent_dropout=0, output_dropout=0, init_scale=1.5)
    model = nats_model(build_model(changed.model, corpus[0].vocab_size, 4))
    model.compile(keras.optimizers.SGD(0.0), SequenceLoss())
    return model


@pytest.fixture(scope="session")
def training(config, tmp_path_factory):
    """A trained run for all tests that only read it, and the lines of its progress."""
    from keraslm.training.train import train_run

    folder, lines = tmp_path_factory.mktemp("trained"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return train_run(config, folder / "runs" / "first", verbose=0, log=lines.append), lines


@pytest.fixture(scope="session")
def trained_run(training):
    """The trained run; copy its folder before you change a file in it."""
    return training[0]


@pytest.fixture
def run_copy(trained_run, tmp_path):
    """Folder with a copy of the trained run, which a test may change."""
    return Path(shutil.copytree(trained_run.path, tmp_path / "copy"))


@pytest.fixture(scope="session")
def fake_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fake")


@pytest.fixture(scope="session")
def fake(fake_folder) -> Path:
    """A model file. Token i has probability (i + 1) / 21: <eos> 0, sat 1, the 2, cat 3, dog 4, <unk> 5."""
    return fake_model.write(fake_folder / "model.onnx")


@pytest.fixture(scope="session")
def bulk_model(fake_folder) -> Path:
    """A model file whose distributions depend on every token since the start of the text."""
    return fake_model.write(fake_folder / "bulk.onnx", fake_model.BY_HISTORY)


@pytest.fixture(scope="session")
def by_id(fake) -> Any:
    return load(fake)


@pytest.fixture(scope="session")
def by_history(bulk_model) -> Any:
    return load(bulk_model)


@pytest.fixture
def texts(tmp_path) -> list[Path]:
    """Six texts of different lengths: one empty, one compressed, one with CR LF."""
    rng, paths = np.random.default_rng(5), []
    words = np.array(["the", "cat", "dog", "sat", "bird"])
    for number, count in enumerate((40, 3, 0, 70, 20)):
        lines = [" ".join(rng.choice(words, rng.integers(0, 9))) for _ in range(count)]
        paths.append(tmp_path / f"{'abcde'[number]}.txt")
        paths[-1].write_bytes("".join(f"{line}\n" for line in lines).encode())
    paths[3].write_bytes(paths[3].read_bytes().replace(b"\n", b"\r\n"))
    paths.append(tmp_path / "f.txt.gz")
    paths[-1].write_bytes(gzip.compress(b"the cat\n\nsat\n"))
    return paths


@pytest.fixture
def watched(tmp_path, monkeypatch) -> Path:
    """The folder that controls `obedient`."""
    folder = tmp_path / "watched"
    folder.mkdir()
    monkeypatch.setenv(FOLDER, str(folder))
    return folder


@pytest.fixture
def text(tmp_path):
    """Write a text file and return its path."""

    def write(content: str | bytes, name: str = "text.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write
