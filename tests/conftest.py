"""What all tests share: the backend of this process, a small text, and one trained run."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from keraslm.backend import select_backend

BACKEND = select_backend()

# What computes nothing on the Keras backend of its process, or what `cli/test_cli_modes.py` does on each one.
WITHOUT_BACKEND = [
    "docs",
    "packaging",
    "keraslm_onnx",
    *(f"cli/test_cli_{name}.py" for name in ("text_faults", "tokenize", "rescore", "pairs", "run_faults", "export")),
    "cli/test_cli_ensemble.py",
    *(
        f"keraslm/test_{name}.py"
        for name in ("encoding", "disk_faults", "fuzz", "tokenizer", "importing", "corpus", "fingerprint")
    ),
    "keraslm/test_techniques.py",
]


def pytest_addoption(parser):
    parser.addoption("--backend-only", action="store_true", help="leave out what computes nothing on a Keras backend")


def pytest_ignore_collect(collection_path, config):
    left_out = {Path(__file__).parent / name for name in WITHOUT_BACKEND}
    return True if config.getoption("--backend-only") and collection_path in left_out else None


# No test reads or fills the user's cache.
_cache = tempfile.TemporaryDirectory()
os.environ["KERASLM_CACHE"] = _cache.name

# The suite trains the same small networks again and again; JAX compiles each of them once. In this process alone: one
# that is killed while it writes would leave half an entry to the next.
if BACKEND == "jax":
    import jax

    _compiled = tempfile.TemporaryDirectory()
    jax.config.update("jax_compilation_cache_dir", _compiled.name)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# No deadline: the suite measures nothing. No database: a failing example is printed, and nothing is left on the disk.
settings.register_profile("keraslm", deadline=None, database=None, derandomize=True, max_examples=60)
settings.load_profile("keraslm")


@pytest.fixture
def backend() -> str:
    return BACKEND


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of corpora that lies beside some checkouts, and in no repository."""
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
    """A tiny configuration on that text, with every dropout switched on."""
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
    from tests.support.words import train_words

    train, valid = TextFile(config.data.train[0]), TextFile(config.data.valid[0])
    tokenizer = train_words(train)
    sizes = config.train.batch_size, config.train.num_steps
    return (tokenizer, *(Windows(tokenizer.encode_text(text), *sizes) for text in (train, valid)))


@pytest.fixture
def standing_model(config, corpus):
    """A model without dropout whose weights `fit` leaves alone, so that NumPy can tell its states and losses."""
    import keras

    from keraslm.losses import SequenceLoss
    from keraslm.model import build_model, nats_model

    changed = config.replace(embedding_dropout=0, recurrent_dropout=0, output_dropout=0, init_scale=1.5)
    model = nats_model(build_model(changed.model, corpus[0].vocab_size, 4))
    model.compile(keras.optimizers.SGD(0.0), SequenceLoss())
    return model


@pytest.fixture(scope="session")
def training(config, tmp_path_factory):
    """One trained run for all tests that only read, and what was said while it was trained."""
    from keraslm.training import train_run

    folder, lines = tmp_path_factory.mktemp("trained"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return train_run(config, folder / "runs" / "first", verbose=0, say=lines.append), lines


@pytest.fixture(scope="session")
def trained_run(training):
    """The run alone; copy its folder before changing a file in it."""
    return training[0]


@pytest.fixture
def run_copy(trained_run, tmp_path):
    """Folder with a copy of the trained run, free to be damaged."""
    return Path(shutil.copytree(trained_run.path, tmp_path / "copy"))
