"""The wheel, as a user gets it: a fresh environment with the base dependencies alone."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support import fake_model

ROOT = Path(__file__).resolve().parents[2]


def run(*command: object, **options) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (path,) = folder.glob("keraslm-*.whl")
    return path


def test_the_wheel_holds_both_packages_with_their_type_markers_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {"keraslm/py.typed", "keraslm_export/py.typed", "keraslm/cli.py", "keraslm_export/convert.py"} <= set(names)
    page = {path.name for path in (ROOT / "export" / "keraslm_export" / "targets" / "page").iterdir()}
    shipped = [Path(name).name for name in names if name.startswith("keraslm_export/targets/page/")]
    assert {"index.html", "page.js", "page.css", "package.json"} <= page == set(shipped)
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"keraslm", "keraslm_export"}


def test_a_fresh_environment_without_a_backend_scores_a_text(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    constraints = ["--constraint", ROOT / "constraints.txt"]
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *constraints, wheel)
    installed = run(python, "-m", "pip", "list", "--format=freeze").lower()
    for package in ("keras==", "tensorflow==", "jax==", "torch==", "onnx==", "safetensors=="):
        assert f"\n{package}" not in f"\n{installed}"
    model = fake_model.write(tmp_path / "model.onnx")
    keraslm = python.with_name("keraslm")
    rows = run(keraslm, "score", model, "-", input="the cat\n", cwd=tmp_path).splitlines()
    assert rows[0].split("\t") == ["sentence_id", "token_id", "token", "logprob", "surprisal"]
    assert [row.split("\t")[2] for row in rows[1:]] == ["the", "cat", "<eos>"]
    found = [float(row.split("\t")[3]) for row in rows[1:]]
    assert found == pytest.approx(fake_model.expected(fake_model.BY_ID, [fake_model.ids_of("the cat")])[0], abs=1e-6)
    told = subprocess.run(
        [keraslm, "train", "--backend", "jax"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert told.returncode == 2
    assert 'pip install "keraslm[jax]"' in told.stderr
    assert "Traceback" not in told.stderr
