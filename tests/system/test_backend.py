import importlib.util
import json
import os
import subprocess
import sys

import pytest

from keraslm.config import BACKENDS
from keraslm.errors import ConfigError, MissingPackageError
from keraslm.system.backend import require, select_backend

FRAMEWORKS = ("keras", "jax", "tensorflow", "torch")


def modules_after(program, **environment):
    """The frameworks that a new interpreter has loaded after a program."""
    report = f"\nimport json, sys\nprint(json.dumps([name for name in {FRAMEWORKS} if name in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", program + report],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def without(monkeypatch, *packages):
    """Make packages look as if they were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in packages else find(name))


def test_the_current_backend_can_be_selected_again(backend, monkeypatch):
    assert select_backend() == select_backend(backend) == backend
    monkeypatch.delenv("KERAS_BACKEND")
    assert select_backend(backend) == backend


@pytest.mark.parametrize("name", ["theano", "JAX", "numpy"])
def test_an_unknown_backend_is_refused_with_the_known_ones(name, monkeypatch):
    message = rf"Unknown backend '{name}'\. Known backends: jax, tensorflow, torch\."
    with pytest.raises(ConfigError, match=message):
        select_backend(name)
    monkeypatch.setenv("KERAS_BACKEND", name)
    with pytest.raises(ConfigError, match=message):
        select_backend()


def test_a_second_backend_is_refused(backend):
    other = next(name for name in BACKENDS if name != backend)
    with pytest.raises(ConfigError, match=rf"already runs on {backend} in this process, but {other} was requested"):
        select_backend(other)
    assert os.environ["KERAS_BACKEND"] == backend


SETTINGS = {
    "KERAS_MAX_EPOCHS": "1",
    "KERAS_MAX_STEPS_PER_EPOCH": "1",
    "KERAS_NNX_ENABLED": "true",
    "JAX_ENABLE_X64": "1",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
}
PROGRAM = """
import json, os
from keraslm.system.backend import select_backend
select_backend()
import keras, numpy
from keraslm.config import ModelConfig
from keraslm.network.model import build_model
model = build_model(ModelConfig(units=4, num_layers=1, recurrent_dropout=0.5), 9, 2)
found = {variable.dtype for variable in model.variables if "seed" not in variable.path}
logits = keras.ops.convert_to_numpy(model(numpy.ones((2, 3)), training=True))
kept = {name: os.environ.get(name) for name in %r}
values = [sorted(found), str(logits.dtype), logits.tolist(), keras.config.epsilon(), keras.config.max_epochs()]
print(json.dumps([*values, kept]))
"""


def test_settings_of_the_surroundings_change_nothing(tmp_path):
    home = tmp_path / ".keras"
    home.mkdir()
    (home / "keras.json").write_text('{"floatx": "float16", "epsilon": 0.1, "max_epochs": 1}')
    found = []
    for own in ({}, {**SETTINGS, "KERAS_HOME": str(home)}):
        program = PROGRAM % sorted(SETTINGS)
        environment = {name: value for name, value in os.environ.items() if name not in SETTINGS} | own
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        *values, kept = json.loads(done.stdout.splitlines()[-1])
        found.append(values)
        assert kept == {name: own.get(name) for name in SETTINGS}
    assert found[0] == found[1] and found[0][:2] == [["float32"], "float32"]


def test_a_process_that_computes_in_a_different_type_is_refused():
    import keras

    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        with pytest.raises(ConfigError, match=r"Call first: keras\.config\.set_dtype_policy"):
            select_backend()
    finally:
        keras.config.set_dtype_policy(before)
    select_backend()


def test_a_backend_that_does_not_start_is_reported():
    program = "from keraslm.system.backend import select_backend; select_backend('jax')"
    environment = os.environ | {"JAX_PLATFORMS": "cuda", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert "ConfigError: The jax backend does not start (" in last
    assert "environment variables (JAX_PLATFORMS=cuda), or choose a different `backend`." in last


@pytest.mark.parametrize("package", ["the backend", "keras"])
def test_a_missing_package_is_answered_with_the_pip_line(backend, monkeypatch, package):
    missing = backend if package == "the backend" else package
    without(monkeypatch, missing)
    match = rf'needs the package {missing}, .*pip install "keraslm\[{backend}\]"'
    with pytest.raises(MissingPackageError, match=match):
        select_backend(backend)


def test_no_backend_is_answered_with_the_pip_line(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND")
    without(monkeypatch, *BACKENDS)
    with pytest.raises(MissingPackageError, match=r'No Keras backend is installed\. Run: pip install "keraslm\[jax\]"'):
        select_backend()


def test_a_missing_extra_is_named_with_its_purpose(monkeypatch):
    require("numpy", extra="plot", purpose="anything")
    without(monkeypatch, "matplotlib")
    with pytest.raises(MissingPackageError, match=r'^--plot needs the package matplotlib, .* "keraslm\[plot\]"$'):
        require("matplotlib", extra="plot", purpose="--plot")


# What is loaded


def test_names_that_need_no_keras_load_no_framework():
    names = "Config, KeraslmError, PRESETS, Run, evaluate, load_model, load_run, preset, train"
    modules = "keraslm.runs.weights, keraslm.text.corpus, keraslm.text.stream, keraslm.cli"
    assert modules_after(f"from keraslm import {names}\nimport {modules}") == []


TRAIN = """
import keraslm
sizes = dict(num_layers=1, units=4, batch_size=2, num_steps=3, epochs=1)
run = keraslm.train(keraslm.preset('small'), train={train!r}, valid={train!r}, run={run!r}, verbose=0, log=len, **sizes)
assert keraslm.evaluate(run, {train!r}).perplexity > 1
"""


def test_training_and_evaluation_load_no_other_framework(backend, text_files, tmp_path, monkeypatch):
    """Keras imports JAX itself, where it is installed, whatever the backend: its module callbacks.orbax_checkpoint."""
    monkeypatch.chdir(tmp_path)
    program = TRAIN.format(train=str(text_files[1]), run=str(tmp_path / "first"))
    loaded = modules_after(program, KERAS_BACKEND=backend)
    assert backend in loaded and set(loaded) - {"jax", backend} == {"keras"}


def test_without_a_choice_the_first_installed_backend_is_used():
    program = (
        "import os; os.environ.pop('KERAS_BACKEND')\n"
        "from keraslm.system.backend import select_backend\n"
        "assert select_backend() == 'jax' == os.environ['KERAS_BACKEND']"
    )
    assert modules_after(program) == ["keras", "jax"]
