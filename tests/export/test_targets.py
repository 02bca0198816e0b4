"""Files for other programs: what they compute, compared with NumPy as those programs call them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

import keraslm
from keraslm.errors import ExportError, UsageError
from keraslm.scoring.seal import check_seal, has_seal
from keraslm.scoring.targets import READERS, TARGETS
from keraslm_export import convert, targets
from tests.reference.language_model import language_model, token_nats
from tests.support.made_run import make_run, make_speech_run

RESCORING, STREAMING = "sherpa-rescoring", "sherpa-streaming"
END = 1  # <sos/eos> in the table of the tests
LINES = ["▁the ▁cat ▁sat", "", "▁dog s ▁ran at ▁日本 zebra ▁cat ing", "▁the", "▁the ▁cat ▁sat"]
KINDS = {
    "full": {"num_layers": 2},
    "tied": {"num_layers": 1, "tie_weights": True},
    "mixture": {
        **{"num_layers": 2, "softmax": "mixture", "num_experts": 3, "embedding_dim": 5},
        **{"mogrifier_rounds": 3, "input_gate": "capped", "skip_connections": True},
    },
}

GRAPHS = [name for name in TARGETS if name not in ("onnx", "hf", "web")]


class Made:
    """A run, its files for all targets, and their reports."""

    def __init__(self, folder: Path, kind: str):
        self.run, self.path, self.report = make_speech_run(folder, **KINDS[kind]), {}, {}
        for name in GRAPHS:
            self.path[name] = folder / f"{name}.onnx"
            self.report[name] = keraslm.export(self.run, self.path[name], target=name)
        self.weights = self.run.read_weights()
        self.of_the_step = {k: KINDS[kind][k] for k in ("input_gate", "skip_connections") if k in KINDS[kind]}

    def session(self, name: str) -> onnxruntime.InferenceSession:
        return opened(self.path[name])

    def rows(self) -> list[np.ndarray]:
        return [ids[:-1] for ids in self.run.tokenizer.encode_lines(LINES)]

    def nll(self, tokens) -> float:
        """Cost of a sentence and its end, from NumPy."""
        logits, _ = language_model(self.weights, np.array([[END, *tokens]]), **self.of_the_step)
        return float(token_nats(np.array([[*tokens, END]]), logits).sum())

    def log_probs(self, ids, states=None):
        """Distributions `(B, T, V)` and states, from NumPy."""
        logits, after = language_model(self.weights, np.asarray(ids), states, **self.of_the_step)
        every = np.stack([-token_nats(np.full(ids.shape, word), logits) for word in range(logits.shape[-1])], -1)
        return every, after


def opened(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])


def by_position(session, *inputs):
    """Call a graph as sherpa-onnx does: inputs and outputs in their order, whatever their names."""
    return session.run(None, {value.name: array for value, array in zip(session.get_inputs(), inputs, strict=True)})


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return Made(tmp_path_factory.mktemp("full"), "full")


@pytest.fixture(scope="module", params=sorted(KINDS))
def made(request, tmp_path_factory, full):
    return full if request.param == "full" else Made(tmp_path_factory.mktemp(request.param), request.param)


# Every target


def test_every_target_has_a_module_and_a_reader():
    assert set(READERS) == set(TARGETS)
    for name in TARGETS:
        module = targets.module_of(name)
        assert (module.__doc__ or "").startswith(f"Target `{name}`: ")
        assert isinstance(module.INT8, bool) and callable(module.check) and callable(module.write)
        assert name not in GRAPHS or name == targets.graph_of(name).NAME


def test_each_file_was_compared_with_keras_before_it_appeared(made):
    for name, report in made.report.items():
        assert (report.target, report.path, report.bytes) == (name, made.path[name], made.path[name].stat().st_size)
        assert 0 < report.largest_difference < 1e-5 and report.chunked_difference < 1e-5
        assert report.recurrent_nodes == made.run.config.model.num_layers


def test_old_clients_can_open_the_files(made):
    for path in made.path.values():
        proto = onnx.load(path)
        onnx.checker.check_model(proto, full_check=True)
        assert proto.ir_version <= 10 and [(o.domain, 13 <= o.version <= 17) for o in proto.opset_import] == [
            ("", True)
        ]
        assert all(value.type.tensor_type.elem_type == TensorProto.FLOAT for value in proto.graph.output)
        assert all(tensor.data_location == TensorProto.DEFAULT for tensor in proto.graph.initializer)
        assert has_seal(path.read_bytes()) and check_seal(path.read_bytes(), "m")


def test_a_second_export_gives_the_same_bytes(full, tmp_path):
    for name, path in full.path.items():
        convert._convert_in_process(full.run, tmp_path / name, target=name)
        assert (tmp_path / name).read_bytes() == path.read_bytes()


def shapes(values):
    return {
        value.name: (
            [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim],
            value.type.tensor_type.elem_type,
        )
        for value in values
    }


def metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


# sherpa-rescoring


def test_rescoring_follows_the_contract(full):
    graph = onnx.load(full.path[RESCORING]).graph
    assert shapes(graph.input) == {"x": (["N", "L"], TensorProto.INT64), "x_lens": (["N"], TensorProto.INT64)}
    assert shapes(graph.output) == {"nll": (["N"], TensorProto.FLOAT)}
    found = metadata(full.path[RESCORING])
    assert {key: found[key] for key in ("model_type", "version", "sos_id", "eos_id", "vocab_size")} == {
        "model_type": "rnnlm",
        "version": "1",
        "sos_id": str(END),
        "eos_id": str(END),
        "vocab_size": "12",
    }


def test_hypotheses_cost_what_numpy_says(made):
    rows = made.rows()
    x = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for number, row in enumerate(rows):
        x[number, : len(row)] = row
    (found,) = by_position(made.session(RESCORING), x, np.array([len(row) for row in rows]))
    assert (found.dtype, found.shape) == (np.float32, (len(rows),))
    np.testing.assert_allclose(found, [made.nll(row) for row in rows], rtol=2e-6)
    assert found[0] == pytest.approx(found[4], abs=1e-6) and len(set(found.round(3))) == 4


def test_hypotheses_without_tokens_cost_their_end(made):
    (found,) = by_position(made.session(RESCORING), np.zeros((1, 0), np.int64), np.zeros(1, np.int64))
    assert found == pytest.approx([made.nll([])], rel=1e-6)
    (found,) = by_position(made.session(RESCORING), np.zeros((3, 0), np.int64), np.zeros(3, np.int64))
    assert found == pytest.approx([made.nll([])] * 3, rel=1e-6)


def test_padding_changes_nothing(made):
    session, row = made.session(RESCORING), made.rows()[2]
    (alone,) = by_position(session, row[None].astype(np.int64), np.array([len(row)]))
    for padding in (0, 5):  # 0 is a token too
        x = np.pad(row[None].astype(np.int64), ((0, 0), (0, 9)), constant_values=padding)
        (found,) = by_position(session, x, np.array([len(row)]))
        np.testing.assert_allclose(found, alone, rtol=1e-6)


# sherpa-streaming


def test_streaming_follows_the_contract(made):
    graph, layers = onnx.load(made.path[STREAMING]).graph, made.run.config.model.num_layers
    state = ([layers, "N", 6], TensorProto.FLOAT)
    assert list(shapes(graph.input).items()) == [("x", (["N", 1], TensorProto.INT64)), ("h0", state), ("c0", state)]
    expected = [("log_softmax", (["N", 12], TensorProto.FLOAT)), ("next_h0", state), ("next_c0", state)]
    assert list(shapes(graph.output).items()) == expected
    found = metadata(made.path[STREAMING])
    assert (int(found["num_layers"]), int(found["hidden_size"]), int(found["sos_id"])) == (layers, 6, END)
    assert found.keys() >= {"model_type", "version", "eos_id", "vocab_size"}


def test_the_state_is_carried_from_token_to_token(made):
    """As `OnlineRnnLM`: the begin symbol with zeros first, then each token with the state that came back."""
    session, layers = made.session(STREAMING), made.run.config.model.num_layers
    ids = np.array([[END, 3, 4, 8, 0], [END, 11, 2, 2, 5]])
    expected, after = made.log_probs(ids)
    h = c = np.zeros((layers, 2, 6), np.float32)
    for step in range(ids.shape[1]):
        found, h, c = by_position(session, ids[:, step : step + 1], h, c)
        assert (found.dtype, found.shape) == (np.float32, (2, 12))
        np.testing.assert_allclose(found, expected[:, step], atol=1e-5)
    np.testing.assert_allclose(h, [state[0] for state in after], atol=1e-6)
    np.testing.assert_allclose(c, [state[1] for state in after], atol=1e-6)
    again, _, _ = by_position(session, ids[:, -1:], np.zeros_like(h), np.zeros_like(c))
    assert np.abs(again - found).max() > 0.01


# rasr


class Recogniser:
    """`OnnxRecurrentLanguageModel` and `LstmStateManager` of RASR: histories with a parent, an output and a state."""

    def __init__(self, path: Path, vocabulary: Path):
        self.session = opened(path)
        inputs = {value.name: value for value in self.session.get_inputs()}
        entries = self.session.get_modelmeta().custom_metadata_map
        self.states = {key.removeprefix("STATE_"): value for key, value in entries.items() if key.startswith("STATE_")}
        self.sizes = [inputs[name].shape[-1] for name in self.states]
        assert self.states and all(isinstance(size, int) for size in self.sizes)  # "must not be of unknown size"
        for name, (kind, rank) in {"word": ("int32", 2), "word-length": ("int32", 1)}.items():
            shape = inputs[name].shape
            assert inputs[name].type == f"tensor({kind})" and len(shape) == rank
            assert not any(isinstance(size, int) for size in shape)  # -1 in the specification of RASR
        (output,) = (value for value in self.session.get_outputs() if value.name == "nn-output")
        assert output.type == "tensor(float)" and [isinstance(size, int) for size in output.shape] == [
            False,
            False,
            True,
        ]
        self.vocabulary = {}
        for line in vocabulary.read_text(encoding="utf-8").splitlines():
            word, number = line.split()
            assert word not in self.vocabulary
            self.vocabulary[word] = int(number)
        assert max(self.vocabulary.values()) + 1 == output.shape[2]
        self.known = {(): (None, [np.zeros(size, np.float32) for size in self.sizes])}

    def compute(self, *histories: tuple[int, ...]) -> None:
        """One call for several histories, each from its longest prefix that has a state."""
        requests = []
        for history in histories:
            start = max(n for n in range(len(history)) if self.known.get(history[:n], (0, None))[1] is not None)
            requests.append((history, start))
        length = max(len(history) - start for history, start in requests)
        word = np.zeros((len(requests), length), np.int32)
        lengths = np.zeros(len(requests), np.int32)
        for row, (history, start) in enumerate(requests):
            lengths[row] = len(history) - start
            word[row, : lengths[row]] = history[start:]
        before = [self.known[history[:start]][1] for history, start in requests]
        feed = {name: np.stack([state[n] for state in before]) for n, name in enumerate(self.states)}
        outputs = self.session.run(["nn-output", *self.states.values()], feed | {"word": word, "word-length": lengths})
        assert all(state.shape == (len(requests), size) for state, size in zip(outputs[1:], self.sizes, strict=True))
        for row, (history, start) in enumerate(requests):
            for step in range(lengths[row]):
                self.known.setdefault(history[: start + step + 1], (outputs[0][row, step], None))
            self.known[history] = outputs[0][row, lengths[row] - 1], [state[row] for state in outputs[1:]]

    def cost(self, history: tuple[int, ...], word: str) -> float:
        """With `transform-output-negate`."""
        return -float(self.known[history][0][self.vocabulary[word]])


def test_rasr_computes_what_numpy_says(made):
    client = Recogniser(made.path["rasr"], made.path["rasr"].with_suffix(".vocab.txt"))
    begin = client.vocabulary["<s>"]
    client.compute((begin,))
    client.compute((begin, 3), (begin, 3, 4, 8), (begin, 11, 0))  # rows of one, three and two tokens
    client.compute((begin, 3, 4, 8, 5), (begin, 11, 0, 7, 9, 2), (begin, 3, 2))  # from three different states
    assert len(client.known) == 12
    for history, (found, _) in client.known.items():
        if history:
            expected, _ = made.log_probs(np.array([history]))
            np.testing.assert_allclose(found, expected[0, -1], atol=1e-5)


def test_a_sentence_costs_in_rasr_what_it_costs_in_keraslm(made, tmp_path):
    client = Recogniser(made.path["rasr"], made.path["rasr"].with_suffix(".vocab.txt"))
    keraslm.export(made.run, tmp_path / "model.onnx")
    history, total = (client.vocabulary["<s>"],), 0.0
    for word in ("▁the", "▁cat", "▁sat", "</s>"):
        client.compute(history)
        total += client.cost(history, word)
        history = (*history, client.vocabulary[word])
    assert total == pytest.approx(-keraslm.load(tmp_path / "model.onnx").score("▁the ▁cat ▁sat"), rel=1e-5)
    assert total == pytest.approx(made.nll([3, 4, 8]), rel=1e-5)


@pytest.mark.parametrize(
    "fields",
    [
        {"layer_units": (7, 5), "embedding_dim": 4},
        {"cell": "gru", "layer_units": (4, 6)},
        {"cell": "rnn", "num_layers": 1},
        {"softmax": "adaptive", "cutoffs": (2, 5)},
    ],
    ids=lambda fields: "-".join(map(str, fields)),
)
def test_rasr_reads_every_cell_and_layers_of_different_sizes(tmp_path, fields):
    run = make_run(tmp_path, context="sentence", **({"units": 5} | fields))
    report = keraslm.export(run, tmp_path / "model.onnx", target="rasr")
    assert report.largest_difference < 1e-5 and report.others == (tmp_path / "model.vocab.txt",)
    client = Recogniser(tmp_path / "model.onnx", tmp_path / "model.vocab.txt")
    parts = 2 if run.config.model.cell == "lstm" else 1
    # The metadata, and so the states, come in any order.
    assert sorted(client.sizes) == sorted(run.config.model.sizes * parts)
    assert client.vocabulary["<s>"] == client.vocabulary["</s>"] == client.vocabulary["<eos>"] == 0
    client.compute((0, 1), (0,))
    if run.config.model.softmax == "full":
        logits, _ = language_model(run.read_weights(), np.array([[0, 1]]))
        expected = [-token_nats(np.array([[0, word]]), logits)[0, 1] for word in range(logits.shape[-1])]
        np.testing.assert_allclose(client.known[(0, 1)][0], expected, atol=1e-5)


def test_a_begin_symbol_of_the_table_is_the_end_symbol_in_rasr(tmp_path):
    """The model has never seen the begin symbol of the table."""
    run = make_speech_run(tmp_path, symbols=("<eps>", "<s>", "a", "<unk>", "b\u3000c", "</s>"))
    (content,) = targets.graph_of("rasr").companions(run, tmp_path / "lm.onnx").values()
    targets.graph_of("rasr").check(run)
    assert content.decode() == "<eps> 0\n<s> 5\na 2\n<unk> 3\nb\u3000c 4\n</s> 5\n"


# int8


@pytest.mark.parametrize("name", [RESCORING, STREAMING])
def test_8_bit_weights_have_nearly_the_same_perplexity(full, tmp_path, name):
    text = tmp_path / "text.txt"
    text.write_text("\n".join(LINES * 20) + "\n", encoding="utf-8")
    report = keraslm.export(full.run, tmp_path / "int8.onnx", target=name, int8=True, text=text, tolerance=0.05)
    rows = full.rows()
    tokens = sum(len(row) + 1 for row in rows)
    assert report.int8.tokens == 20 * tokens
    assert report.int8.float32.perplexity == pytest.approx(np.exp(sum(map(full.nll, rows)) / tokens), rel=1e-5)
    assert 0 < abs(report.int8.difference) < 0.01
    proto = onnx.load(tmp_path / "int8.onnx")
    assert sum(node.op_type == "DynamicQuantizeLSTM" for node in proto.graph.node) == 2
    assert shapes(proto.graph.input) == shapes(onnx.load(full.path[name]).graph.input)
    differ = {key for key, value in metadata(tmp_path / "int8.onnx").items() if metadata(full.path[name])[key] != value}
    assert differ == {"precision", "file_sha256"}
    with pytest.raises(ExportError, match=r"is allowed \(`tolerance`\)\. Not published"):
        keraslm.export(full.run, tmp_path / "int8.onnx", target=name, int8=True, text=text, tolerance=1e-9)
    assert onnx.load(tmp_path / "int8.onnx") == proto


# Refusals


@pytest.mark.parametrize("name", [RESCORING, STREAMING])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layer_units": (6, 5)}, "all layers must have the same number of units, but have 6, 5."),
        ({"cell": "gru"}, "its state is that of an LSTM, but the cell is gru."),
        (
            {"context": "document"},
            'in the training the state was carried (context document). Train with `context="sent',
        ),
        ({"context": "paragraph"}, "in the training the state was carried (context paragraph)."),
        (
            {"symbols": ("<eos>", "<unk>", "a", "b")},
            "id 0 is the blank of the speech model, but the end symbol of the run, '<eos>',",
        ),
    ],
    ids=["sizes", "cell", "document", "paragraph", "blank"],
)
def test_runs_that_sherpa_onnx_cannot_use_are_refused(tmp_path, existing, name, fields, message):
    run = make_speech_run(tmp_path, **({"num_layers": 2} | fields))
    with pytest.raises(UsageError) as caught:
        keraslm.export(run, existing, target=name)
    assert str(caught.value).startswith(f"{run.path} cannot become a file for target {name}: ")
    assert message in str(caught.value)


def test_a_vocabulary_of_keraslm_is_refused_by_sherpa_onnx(tmp_path, existing):
    run = make_run(tmp_path, context="sentence", units=4)
    with pytest.raises(
        UsageError, match=r"must be those of the speech model, .* of its own \(tokenizer word\)\. Train with"
    ):
        keraslm.export(run, existing, target=RESCORING)


def test_runs_that_rasr_cannot_use_are_refused(tmp_path, existing):
    (tmp_path / "a").mkdir()
    run = make_run(tmp_path / "a", units=4)
    with pytest.raises(UsageError, match=r"target rasr: each sentence starts from a state of zeros, but .*document"):
        keraslm.export(run, existing, target="rasr")
    run = make_speech_run(tmp_path, symbols=("<blk>", "</s>", "<unk>", "a", " ", "b"))
    with pytest.raises(UsageError, match="ends at white space, but the run has the token ' '"):
        keraslm.export(run, existing, target="rasr")


def test_arguments_that_a_target_cannot_use_are_refused(full, existing):
    with pytest.raises(UsageError, match=r"^Target rasr is written in float32 only; export without `int8`\.$"):
        keraslm.export(full.run, existing, target="rasr", int8=True)
    with pytest.raises(UsageError, match="`text` is used only to compare int8 with float32"):
        keraslm.export(full.run, existing, target="rasr", text="text.txt")
    with pytest.raises(UsageError, match=r"^`target` is 'kaldi', but must be one of onnx, sherpa-rescoring, "):
        keraslm.export(full.run, existing, target="kaldi")


def test_a_failed_conversion_leaves_both_files_of_rasr(full, existing, tmp_path, monkeypatch):
    vocabulary = existing.with_suffix(".vocab.txt")
    vocabulary.write_text("older")

    def fail(run, output, target):
        output.write_bytes(b"half of a model")
        raise ExportError("no")

    monkeypatch.setattr(convert, "_convert_in_process", fail)
    with pytest.raises(ExportError, match=r"^no$"):
        keraslm.export(full.run, existing, target="rasr")
    assert vocabulary.read_text() == "older"
    vocabulary.unlink()


def test_the_vocabulary_replaces_no_file_of_the_run(full, existing, monkeypatch):
    monkeypatch.setattr(convert, "_convert_in_process", lambda *_, **__: pytest.fail("it was converted"))
    existing.with_suffix(".vocab.txt").symlink_to(full.run.path / "config.json")
    with pytest.raises(UsageError, match="this output would overwrite the input"):
        keraslm.export(full.run, existing, target="rasr")
    existing.with_suffix(".vocab.txt").unlink()


# The comparison with Keras


def swapped(proto, first: str, second: str):
    names = {first: second, second: first}
    for node in proto.graph.node:
        node.output[:] = [names.get(name, name) for name in node.output]
    return proto


def with_constant(proto, name: str, value: np.ndarray):
    (tensor,) = [tensor for tensor in proto.graph.initializer if tensor.name == name]
    tensor.CopyFrom(onnx.numpy_helper.from_array(value, name))
    return proto


def without_lengths(proto):
    for node in proto.graph.node:
        if node.op_type == "LSTM":
            node.input[4] = ""
    return proto


def test_a_wrong_graph_is_found(full):
    def refused(name, proto):
        with pytest.raises(ExportError, match=r"differs from Keras.*Not published"):
            targets.graph_of(name).compare(full.run, proto.SerializeToString())

    protos = {name: onnx.load(path) for name, path in full.path.items()}
    for name, proto in protos.items():
        assert targets.graph_of(name).compare(full.run, proto.SerializeToString()).largest_difference < 1e-5
    refused(RESCORING, with_constant(protos[RESCORING], "end_symbol", np.int64(2)))
    refused(STREAMING, swapped(protos[STREAMING], "next_h0", "next_c0"))
    refused("rasr", swapped(protos["rasr"], "next_h_0", "next_h_1"))
    refused("rasr", without_lengths(onnx.load(full.path["rasr"])))
