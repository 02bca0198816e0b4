"""The drawings of the architecture page are those of the present code."""

import runpy
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from keraslm.config import Config, ModelConfig, TrainConfig

DOCS = Path(__file__).resolve().parents[2] / "docs"
DRAW = runpy.run_path(str(DOCS / "draw_architecture.py"))
DRAWINGS = DRAW["drawings"]()


def words(svg: str) -> list[str]:
    return [node.text or "" for node in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_committed_drawing_is_current(name):
    assert (DOCS / "explanation" / name).read_text(encoding="utf-8") == DRAWINGS[name], "run: make docs"


@pytest.mark.parametrize("name", DRAWINGS)
def test_nothing_is_loaded_from_outside(name):
    assert DRAWINGS[name].count("http") == 1  # the name of the SVG namespace


def test_the_network_has_the_weights_of_zaremba():
    found = words(DRAWINGS["network.svg"])
    assert "19,775,200 weights" in found  # 2 x 650 units, 10,000 words
    assert found.count("recurrent_kernel 650 × 2,600") == found.count("next window") == 2
    assert found.count("dropout 0.5") == 3


def test_a_different_network_is_drawn_from_its_configuration():
    model = ModelConfig(cell="gru", layer_units=(7, 3), embedding_dim=5, last_dropout=0.25, softmax="mixture")
    config = Config(model=model, train=TrainConfig(batch_size=2, num_steps=4))
    found = words(DRAW["network"](config.model, config.train, 11, "none"))
    assert [word for word in found if word.startswith(("gru_", "dropout"))] == ["gru_0", "gru_1", "dropout 0.25"]
    assert found.count("h 2 × 7") == found.count("h 2 × 3") == 2  # before and after the window
    assert {"kernel 5 × 21", "kernel 7 × 9", "bias 2 × 9", "latent_kernel 3 × 50", "2 × 4 × 3"} <= set(found)


def test_levels_rise_with_every_import():
    used, levels = DRAW["imports"]()
    assert levels["errors"] == 0 and used["cli"] >= {"commands"}
    assert all(levels[other] < levels[room] for room, others in used.items() for other in others)
    assert set(used) <= set(words(DRAWINGS["repository.svg"]))
