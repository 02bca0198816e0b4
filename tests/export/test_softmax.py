"""Adaptive and sampled softmax from training to scores: every path gives the same numbers."""

import contextlib
from collections import Counter

import numpy as np
import onnx
import pytest

import keraslm
from keraslm.errors import ExportError, InputError
from keraslm.scoring import contract, scorer
from keraslm.scoring.sampler import Sampling, generate
from keraslm_export.verify import compare
from tests.support.tiny import FIELDS

KINDS = {"adaptive": {"cutoffs": (6, 14)}, "sampled": {"num_sampled": 40}}


@pytest.fixture(scope="module", params=sorted(KINDS))
def exported(request, tmp_path_factory, tiny_folder):
    """A run with another softmax, its model file, and what the export reported."""
    folder = tmp_path_factory.mktemp(request.param)
    fields = FIELDS | {"softmax": request.param, "num_layers": 2, **KINDS[request.param]}
    texts = {"train": tiny_folder / "train.txt", "valid": tiny_folder / "valid.txt"}
    with contextlib.chdir(folder):
        run = keraslm.train(
            keraslm.preset("small"), run=folder / "run", verbose=0, log=lambda _: None, **texts, **fields
        )
    return run, folder / "model.onnx", keraslm.export(run, folder / "model.onnx")


def test_the_export_agrees_with_keras(exported):
    _, _, report = exported
    assert report["largest_difference"] < 1e-5 and report["chunked_difference"] < 1e-5
    assert report["lstm_nodes"] == 2


def test_the_graph_has_no_control_flow(exported):
    nodes = Counter(node.op_type for node in onnx.load(exported[1]).graph.node)
    assert nodes["LSTM"] == 2 and not {"Loop", "If", "Scan"} & nodes.keys()


@pytest.mark.parametrize("cells", [scorer.MAX_LOGITS, 30])
def test_scores_are_those_of_the_evaluation(exported, tiny_folder, monkeypatch, cells):
    monkeypatch.setattr(scorer, "MAX_LOGITS", cells)
    run, path, _ = exported
    text = tiny_folder / "held-out.txt"
    expected = keraslm.evaluate(run, text)
    lines = text.read_text(encoding="utf-8").splitlines()
    found = keraslm.summarize(keraslm.load(path).score_lines(lines, "document"))
    assert found.nats == pytest.approx(expected.nats, rel=1e-5)
    assert found.oov_nats == pytest.approx(expected.oov_nats, rel=1e-5)
    assert (found.tokens, found.words, found.oovs) == (expected.tokens, expected.words, expected.oovs)


def test_the_distribution_sums_to_one_and_holds_the_scores(exported):
    session = keraslm.ModelSession(exported[1])
    size = session.info.vocab_size
    ids = np.random.default_rng(0).integers(0, size, (3, 9))
    for targets in (np.roll(ids, -1, axis=1), np.zeros_like(ids), np.full_like(ids, size - 1)):  # clusters empty, too
        log_probs, after = session.run(ids, session.zero_state(3))
        np.testing.assert_allclose(np.exp(log_probs).sum(axis=-1), 1.0, rtol=1e-5)
        found, state = session.target_logprobs(ids, targets, session.zero_state(3))
        np.testing.assert_allclose(found, np.take_along_axis(log_probs, targets[..., None], 2)[..., 0], atol=1e-5)
        np.testing.assert_array_equal(state.h, after.h)


def test_each_word_alone_has_its_score(exported):
    session = keraslm.ModelSession(exported[1])
    ids = np.array([[0, 3, 1]])
    log_probs, _ = session.run(ids, session.zero_state(1))
    for target in range(session.info.vocab_size):
        found, _ = session.target_logprobs(ids, np.full_like(ids, target), session.zero_state(1))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, log_probs[:, :, target], atol=1e-5)


def test_the_distribution_is_computed_after_the_steps_that_have_a_target(exported):
    import onnxruntime

    found = keraslm.ModelSession(exported[1])
    ids, targets = np.array([[0, 3, 1, 2], [5, 4, 9, 7]]), np.array([[3, 1, 20, 4], [0, 0, 0, 0]])
    whole, state = found.run(ids, found.zero_state(2))
    expected = np.take_along_axis(whole, targets[..., None], -1)[..., 0]
    session = onnxruntime.InferenceSession(exported[1].read_bytes(), providers=["CPUExecutionProvider"])
    for known in range(5):
        feed = {"input_ids": ids, "h0": np.zeros_like(state.h), "c0": np.zeros_like(state.c)}
        names = ["target_log_probs", "log_probs", "next_h0"]
        of_targets, log_probs, h = session.run(names, feed | {"targets": targets[:, :known]})
        assert (of_targets.shape, log_probs.shape) == ((2, known), (2, 4 - known, whole.shape[-1]))
        np.testing.assert_allclose(of_targets, expected[:, :known], atol=1e-5)
        np.testing.assert_allclose(log_probs, whole[:, known:], atol=1e-5)
        np.testing.assert_allclose(h, state.h, atol=1e-6)


def test_a_graph_with_wrong_scores_of_targets_is_not_published(exported):
    run, path, _ = exported
    proto = onnx.load(path)
    for node in proto.graph.node:
        node.output[:] = ["right" if name == contract.TARGET_LOG_PROBS else name for name in node.output]
    proto.graph.node.append(onnx.helper.make_node("Neg", ["right"], [contract.TARGET_LOG_PROBS]))
    with pytest.raises(ExportError, match="Not published"):
        compare(run, proto.SerializeToString())


def test_a_second_export_gives_the_same_bytes(exported, tmp_path):
    run, path, _ = exported
    keraslm.export(run, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()


def test_text_is_generated(exported):
    tokens = list(generate(keraslm.ModelSession(exported[1]), "the", 5, Sampling(seed=1), stop_at_eos=False))
    assert len(tokens) == 5


def test_targets_are_checked(exported):
    session = keraslm.ModelSession(exported[1])
    with pytest.raises(InputError, match="outside the vocabulary"):
        session.target_logprobs([[0]], [[session.info.vocab_size]], session.zero_state(1))
    with pytest.raises(InputError, match="they must be equal"):
        session.target_logprobs([[0]], [[0, 1]], session.zero_state(1))


def test_show_lists_the_weights(exported):
    from keraslm.config.shapes import weight_shapes
    from keraslm.runs.weights import read_weights

    run = exported[0]
    shapes = weight_shapes(run.config.model, run.tokenizer.vocab_size)
    weights = read_weights(run.weights_path, run.config.model, run.tokenizer.vocab_size)
    assert {name: value.shape for name, value in weights.items()} == shapes
