"""sherpa-onnx itself recognises with exported language models; their scores are those of NumPy.

The transducer is made of constants (`tests/clients/acoustic.py`), so the language model decides. An OnlineRecognizer
reports the score of each token. An OfflineRecognizer reports only which hypothesis won: the weight of the language
model at which two hypotheses change places gives the difference of their costs.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import keraslm
from tests.clients import acoustic
from tests.reference.language_model import language_model, token_nats
from tests.support.made_run import SYMBOLS, make_speech_run

PROGRAM = Path(__file__).parent / "sherpa_program.py"
END = 1
IMPOSSIBLE = -1000.0
IDS = [3, 4, 8, 0, 10, 5, 9, 7]  # with a blank
TOLERANCE = 1e-5  # nats


class Made:
    """A run, and its files for sherpa-onnx: by target, and with `int8` after it."""

    def __init__(self, folder: Path, **fields: Any):
        self.folder, self.run, self.path = folder, make_speech_run(folder, **fields), {}
        text = folder / "text.txt"
        text.write_text("▁the ▁cat ▁sat\n▁dog s ▁ran ing\n\n" * 10, encoding="utf-8")
        for target in ("sherpa-rescoring", "sherpa-streaming"):
            for int8 in ({}, {"int8": True, "text": text, "tolerance": 0.05}):
                path = folder / f"{target}{'-int8' if int8 else ''}.onnx"
                keraslm.export(self.run, path, target=target, **int8)
                self.path[path.stem] = path

    def logprobs(self, tokens: list[int]) -> np.ndarray:
        """Log-probabilities of the tokens and of the end symbol, from NumPy."""
        logits, _ = language_model(self.run.read_weights(), np.array([[END, *tokens]]))
        return -token_nats(np.array([[*tokens, END]]), logits)[0]


@pytest.fixture(scope="module", params=["full", "adaptive"])
def made(request, tmp_path_factory):
    fields = {"softmax": "adaptive", "cutoffs": (4, 8)} if request.param == "adaptive" else {}
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "full":
        return Made(folder, num_layers=2)
    return Adaptive(folder, num_layers=1, **fields)


class Adaptive(Made):
    """NumPy has no adaptive softmax here: the scores are those of the model file of keraslm."""

    def logprobs(self, tokens: list[int]) -> np.ndarray:
        path = self.folder / "model.onnx"
        if not path.exists():
            keraslm.export(self.run, path)
        session = keraslm.ModelSession(path, "cpu")
        found, _ = session.target_logprobs([[END, *tokens]], [[*tokens, END]], session.zero_state(1))
        return found[0]


def frames(ids: list[int], size: int = len(SYMBOLS)) -> np.ndarray:
    """Frames that can only be these tokens."""
    found = np.full((len(ids), size), IMPOSSIBLE)
    found[np.arange(len(ids)), ids] = 0
    return found


def speech(folder: Path, scores: np.ndarray, made: Made, chunks: int = 0) -> Path:
    acoustic.write(folder, scores, chunks)
    shutil.copy(made.folder / "tokens.txt", folder)
    return folder


def client(python: Path, *arguments: object) -> Any:
    line = [python, "-I", PROGRAM, *arguments]
    done = subprocess.run(list(map(str, line)), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["found"]


def words(ids: list[int]) -> list[str]:
    return [SYMBOLS[i].replace("▁", " ") for i in ids if i]


# Streaming


def test_each_token_has_the_score_of_numpy_over_several_calls(sherpa, made, tmp_path):
    folder = speech(tmp_path / "speech", frames(IDS), made, chunks=4)
    found = client(sherpa, "streaming", folder, made.path["sherpa-streaming"], 4)
    assert found["tokens"] == words(IDS)
    expected = made.logprobs([i for i in IDS if i])[:-1]
    difference = np.abs(np.array(found["lm_probs"]) - expected).max()
    print(f"\nstreaming: largest difference {difference:.2e} nats")
    assert difference < TOLERANCE and np.ptp(expected) > 0.1


def test_a_network_of_the_usual_size(sherpa, tmp_path):
    """Two layers of 200 units and 500 symbols; 100 tokens in four calls.

    The client subtracts running sums in float32 to report a token, so later tokens lose digits.
    """
    symbols = [*SYMBOLS, *(f"▁word{number}" for number in range(500 - len(SYMBOLS)))]
    run = make_speech_run(tmp_path, symbols, num_layers=2, units=200)
    keraslm.export(run, tmp_path / "lm.onnx", target="sherpa-streaming")
    ids = np.random.default_rng(0).integers(3, 500, 100)
    acoustic.write(tmp_path / "speech", frames(list(ids), 500), chunks=4)
    shutil.copy(tmp_path / "tokens.txt", tmp_path / "speech")
    found = client(sherpa, "streaming", tmp_path / "speech", tmp_path / "lm.onnx", 4)["lm_probs"]
    logits, _ = language_model(run.read_weights(), np.array([[END, *ids[:-1]]]))
    expected = -token_nats(ids[None], logits)[0]
    differences = np.abs(np.array(found) - expected)
    first, every = differences[:10].max(), differences.max()
    print(f"\n2 x 200 units, 500 symbols: largest difference {first:.2e} nats in 10 tokens, {every:.2e} in 100")
    assert len(found) == 100 and first < TOLERANCE and every < 1e-4


def test_the_state_passes_from_call_to_call(sherpa, made, tmp_path):
    """The second half of the tokens costs something else where the first half was different."""
    model, found = made.path["sherpa-streaming"], []
    for first in ([3, 4, 8, 9], [10, 10, 10, 10]):
        folder = speech(tmp_path / str(first[0]), frames([*first, 5, 9]), made, chunks=2)
        found.append(client(sherpa, "streaming", folder, model, 2)["lm_probs"][-2:])
        assert found[-1] == pytest.approx(made.logprobs([*first, 5, 9])[4:6], abs=TOLERANCE)
    assert abs(found[0][0] - found[1][0]) > 1e-3


def test_speech_without_tokens_is_recognised_as_nothing(sherpa, made, tmp_path):
    folder = speech(tmp_path / "speech", frames([0, 0]), made, chunks=2)
    for name in ("sherpa-streaming", "sherpa-streaming-int8"):
        assert client(sherpa, "streaming", folder, made.path[name], 2) == {"tokens": [], "lm_probs": []}
    folder = speech(tmp_path / "at-once", frames([0, 0]), made)
    for name in ("sherpa-rescoring", "sherpa-rescoring-int8"):  # called with x of shape [1, 0]
        assert client(sherpa, "rescoring", folder, made.path[name], 0.5) == [[]]


def test_8_bit_scores_are_those_of_onnxruntime(sherpa, made, tmp_path):
    path, tokens = made.path["sherpa-streaming-int8"], [i for i in IDS if i]
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    layers = made.run.config.model.num_layers
    h = c = np.zeros((layers, 1, 6), np.float32)
    expected = []
    for word, following in zip([END, *tokens[:-1]], tokens, strict=True):
        found, h, c = session.run(None, {"x": np.array([[word]]), "h0": h, "c0": c})
        expected.append(found[0, following])
    folder = speech(tmp_path / "speech", frames(IDS), made, chunks=4)
    found = client(sherpa, "streaming", folder, path, 4)["lm_probs"]
    print(f"\nint8: largest difference {np.abs(np.array(found) - expected).max():.2e} nats")
    assert found == pytest.approx(expected, abs=TOLERANCE)
    assert 1e-5 < np.abs(np.array(found) - made.logprobs(tokens)[:-1]).max() < 0.1


def test_a_missing_key_ends_the_client(sherpa, made, tmp_path):
    """So all keys must be there, and the client read them in the other tests."""
    folder = speech(tmp_path / "speech", frames(IDS), made, chunks=4)
    for key in ("num_layers", "hidden_size", "sos_id"):
        proto = onnx.load(made.path["sherpa-streaming"])
        kept = [entry for entry in proto.metadata_props if entry.key != key]
        assert len(kept) == len(proto.metadata_props) - 1
        del proto.metadata_props[:]
        proto.metadata_props.extend(kept)
        onnx.save(proto, tmp_path / "without.onnx")
        line = [sherpa, "-I", PROGRAM, "streaming", folder, tmp_path / "without.onnx", 4]
        done = subprocess.run(list(map(str, line)), capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode != 0 and f"'{key}' does not exist in the metadata" in done.stderr


# Rescoring


def crossing(python: Path, folder: Path, model: Path, wanted: list[str]) -> float:
    """The weight of the language model, up to 4, from which the recogniser finds the tokens `wanted`."""
    low, high = 0.0, 4.0
    for _ in range(5):
        grid = np.linspace(low, high, 17)
        wins = np.array([tokens == wanted for tokens in client(python, "rescoring", folder, model, *grid)])
        assert not wins[0] and wins[-1], (grid, wins)
        low, high = grid[np.flatnonzero(~wins).max()], grid[np.flatnonzero(wins).min()]
        if low > high:  # below the precision of float32
            break
    return float(low + high) / 2


def lead(advantage: Any, lengths: tuple[int, int]) -> Any:
    """How far the first of two hypotheses leads, if the frames prefer it by `advantage` and sums are divided so."""
    return -np.logaddexp(0.0, -advantage) / lengths[0] + np.logaddexp(0.0, advantage) / lengths[1]


@pytest.mark.parametrize("name", ["sherpa-rescoring", "sherpa-rescoring-int8"])
@pytest.mark.parametrize(
    ("first", "second"),
    [([3, 4, 8, 10, 5], [3, 4, 9, 10, 5]), ([3, 4, 8, 10], [3, 0, 8, 10]), ([11, 0], [0, 0]), ([3], [7])],
    ids=["one token", "one token more", "something or nothing", "short"],
)
def test_hypotheses_change_places_where_numpy_says(sherpa, made, tmp_path, first, second, name):
    """The frames prefer one hypothesis by as much as the language model prefers the other.

    sherpa-onnx divides the sum of all scores by the number of tokens, and counts a blank before them.
    """
    lengths = {ids: len([i for i in ids if i]) + 1 for ids in (tuple(first), tuple(second))}
    costs = {ids: -made.logprobs([i for i in ids if i]).sum() / length for ids, length in lengths.items()}
    likely, unlikely = sorted(costs, key=costs.__getitem__)  # to the language model
    gap, sizes = costs[unlikely] - costs[likely], (lengths[unlikely], lengths[likely])
    advantages = np.linspace(-40, 40, 1_000_001)
    chosen = advantages[np.searchsorted(lead(advantages, sizes), gap)].astype(np.float32)
    (place,) = np.flatnonzero(np.array(likely) != unlikely)
    scores = frames(list(unlikely))
    scores[place, likely[place]] = -chosen
    folder = speech(tmp_path / "speech", scores, made)
    weight = crossing(sherpa, folder, made.path[name], words(list(likely)))
    found = lead(float(chosen), sizes) / weight
    print(f"\n{name}: costs per token differ by {found:.6f} in the client, {found - gap:+.1e} from expected")
    assert gap > 1e-3
    assert found == pytest.approx(gap, abs=0.005 if "int8" in name else TOLERANCE)
