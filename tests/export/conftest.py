"""A model file that exists before an export."""

import pytest


@pytest.fixture
def existing(tmp_path):
    """An existing model file; the test must leave it unchanged and nothing beside it."""
    folder, data = tmp_path / "out", b"the model file that was there before"
    folder.mkdir()
    path = folder / "model.onnx"
    path.write_bytes(data)
    yield path
    assert [(file, file.read_bytes()) for file in folder.iterdir()] == [(path, data)]
