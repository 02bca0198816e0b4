"""The two graphs of a translation network, and the program that translates with them and without Keras."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

from examples.translation import export as exporting
from examples.translation.config import TranslationConfig
from examples.translation.data import Vocabularies
from examples.translation.export import TOLERANCE, export
from examples.translation.model import Network, build_network
from examples.translation.search import Hypothesis, Search, search_batches
from keraslm.errors import ExportError
from tests.reference.translation import translation_logits

FOLDER = Path(exporting.__file__).parent
ABSENT = ("keras", "keraslm", "jax", "tensorflow", "torch", "onnx", "tf2onnx")
SOURCE = ["The dog sleeps .", "Two cats play with a small dog .", "A man and a woman sing .", "The cat sings ."]
TARGET = ["Der Hund schläft .", "Zwei Katzen spielen mit einem Hund .", "Mann und Frau singen .", "Die Katze singt ."]
LINES = ["The cat sleeps .", "", "A dog and a zebra play with a man .", "dog", " ", "Two cats sing and sing ."]

NETWORKS = {
    "none": {"attention": "none", "bidirectional": False},
    "none-2": {"attention": "none", "num_layers": 2, "tie_weights": False, "embedding_size": 5, "vocabulary": "bpe"},
    "luong": {"attention": "luong", "tie_weights": False, "embedding_size": 8, "reverse_source": True},
    "scaled-2": {"attention": "scaled_luong", "num_layers": 2, "vocabulary": "bpe", "reverse_source": True},
    "bahdanau": {"attention": "bahdanau"},
    "bahdanau-2": {"attention": "bahdanau", "num_layers": 2, "bidirectional": False, "lowercase": True},
}


@dataclass
class System:
    """A network with random weights, and the folder of its export."""

    network: Network
    config: TranslationConfig
    vocabularies: Vocabularies
    folder: Path
    difference: float

    @property
    def weights(self) -> dict[str, np.ndarray]:
        return {v.path: keras.ops.convert_to_numpy(v) for v in self.network.training.trainable_variables}

    def sessions(self) -> list[onnxruntime.InferenceSession]:
        return [onnxruntime.InferenceSession(self.folder / f"{name}.onnx") for name in ("encoder", "step")]

    def search(self, lines: list[str], search: Search) -> list[list[Hypothesis]]:
        """Search with the Keras models."""
        size = 0 if self.config.model.attention == "none" else 3

        def encode(source, lengths):
            found = tuple(self.network.encoder.predict_on_batch([source, lengths]))
            return found[:size], found[size:]

        def step(tokens, memory, state):
            log_probs, *found = self.network.step.predict_on_batch([tokens, *memory, *state])
            return log_probs, tuple(found[: len(state)]), found[-1] if size else None

        sentences = self.vocabularies.encode_source(lines, self.config.data.reverse_source)
        return search_batches(encode, step, sentences, self.vocabularies.target.eos_id, search, len(lines))

    def text(self, hypothesis: Hypothesis) -> str:
        return self.vocabularies.target.decode(hypothesis.tokens)


def make_system(folder: Path, **fields) -> System:
    sizes = {"units": 6, "vocabulary": "word", "vocab_size": 290, "min_count": 1}
    config = TranslationConfig().replace(**sizes | fields)
    vocabularies = Vocabularies.train(SOURCE, TARGET[:3], config.data)
    source, target = vocabularies.source, vocabularies.target
    network, draw = build_network(config, source.vocab_size, target.vocab_size, target.eos_id), np.random.default_rng(3)
    for variable in network.training.trainable_variables:
        variable.assign(draw.normal(size=variable.shape))
    return System(network, config, vocabularies, folder, export(network, config, vocabularies, folder))


@pytest.fixture(scope="module", params=NETWORKS)
def system(request, tmp_path_factory) -> System:
    return make_system(tmp_path_factory.mktemp("exported") / request.param, **NETWORKS[request.param])


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> System:
    """A network that predicts unknown words only, with equal weights of all source words."""
    system = make_system(tmp_path_factory.mktemp("words") / "random", **NETWORKS["luong"])
    for variable in system.network.training.trainable_variables:
        if variable.path in ("keys/kernel", "logits/kernel"):
            variable.assign(np.zeros(variable.shape))
        if variable.path == "logits/bias":
            variable.assign(np.eye(variable.shape[0])[system.vocabularies.target.unk_id] * 50)
    system.folder = system.folder.with_name("words")
    export(system.network, system.config, system.vocabularies, system.folder)
    return system


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """translate.py and search.py alone, in a folder where Keras and keraslm cannot be imported."""
    folder = tmp_path_factory.mktemp("program")
    for name in ("translate.py", "search.py"):
        shutil.copy(FOLDER / name, folder)
    for name in ABSENT:
        (folder / f"{name}.py").write_text(f"raise ImportError('{name} is not installed here')\n")
    return folder / "translate.py"


@pytest.fixture
def run(program, tmp_path):
    """Run translate.py on lines or bytes: exit code, lines of its output, and standard error."""

    def call(folder: Path, lines, *options: str) -> tuple[int, list[str], str]:
        text = lines if isinstance(lines, bytes) else "".join(f"{line}\n" for line in lines).encode()
        line = [sys.executable, str(program), str(folder), *options]
        done = subprocess.run(line, input=text, capture_output=True, cwd=tmp_path, check=False)
        return done.returncode, done.stdout.decode().split("\n")[:-1], done.stderr.decode()

    return call


def test_the_graphs_have_one_node_per_lstm_layer_and_a_tied_table_once(system):
    config, nodes = system.config.model, []
    for name in ("encoder", "step"):
        graph = onnx.load(system.folder / f"{name}.onnx").graph
        kinds = [node.op_type for node in graph.node]
        assert kinds.count("LSTM") == config.num_layers and not {"Loop", "Scan", "If"} & {*kinds}
        nodes.append([tuple(tensor.dims) for tensor in graph.initializer])
    vocab_size = system.vocabularies.vocab_size
    tables = [shape for shape in nodes[1] if vocab_size in shape and len(shape) == 2]
    assert len(tables) == (1 if config.tie_weights else 2)


def test_the_graphs_equal_keras(system):
    assert system.difference < 5e-6


def test_the_graphs_equal_the_reference(system):
    """A batch of three lengths whose padding has tokens, and a reference that has no padding and no steps."""
    encoder, step = system.sessions()
    draw, eos, lengths = np.random.default_rng(7), system.vocabularies.target.eos_id, [4, 1, 7]
    source = draw.integers(0, system.vocabularies.source.vocab_size, (3, 7))
    targets = draw.integers(0, system.vocabularies.vocab_size, (3, 5))
    expected = [
        translation_logits(system.weights, ids[:n], t, eos) for ids, n, t in zip(source, lengths, targets, strict=True)
    ]
    found = encoder.run(None, {"source": source, "lengths": np.array(lengths, np.int32)})
    names = [x.name for x in step.get_inputs()]
    memory = [name for name in names if name.startswith("memory")]
    feed = dict(zip(names[1:], found, strict=True))
    for number, tokens in enumerate(np.insert(targets, 0, eos, axis=1).T[:-1]):
        log_probs, *after = step.run(None, {"token": tokens} | feed)
        logits = np.array([row[number] for row in expected])
        np.testing.assert_allclose(
            log_probs, logits - np.logaddexp.reduce(logits, axis=1, keepdims=True), rtol=1e-5, atol=1e-5
        )
        feed |= dict(zip(names[1 + len(memory) :], after, strict=False))
        for row, length in enumerate(lengths if memory else []):
            assert not after[-1][row, length:].any() and after[-1][row].sum() == pytest.approx(1.0)


@pytest.mark.parametrize("beam", [1, 3])
def test_the_program_finds_what_a_search_with_keras_finds(system, run, beam):
    options = ("--beam", str(beam), "--n-best", str(beam), "--keep-unknown", "--length-penalty", "0.6")
    code, found, errors = run(system.folder, LINES, *options)
    assert (code, errors) == (0, "")
    spoken = [n for n, line in enumerate(LINES) if line.strip()]
    hypotheses = system.search([LINES[n] for n in spoken], Search(beam, 0.6))
    expected = {n: [(system.text(h), h.score) for h in best] for n, best in zip(spoken, hypotheses, strict=True)}
    rows = [(n, *row) for n in range(len(LINES)) for row in expected.get(n, [("", 0.0)])]
    assert [row.rsplit(" ||| ", 1)[0] for row in found] == [f"{n} ||| {text}" for n, text, _ in rows]
    scores = [float(row.rsplit(" ||| ", 1)[1]) for row in found]
    np.testing.assert_allclose(scores, [score for *_, score in rows], atol=2e-5)


def test_the_size_of_a_batch_changes_nothing(system, run):
    """Line ends of Windows, a missing last one and a byte order mark change nothing either."""
    answers = [run(system.folder, LINES, "--beam", "2", "--batch-size", size) for size in ("1", "2", "64")]
    answers.append(run(system.folder, b"\xef\xbb\xbf" + "\r\n".join(LINES).encode(), "--beam", "2"))
    assert answers[0][0] == 0 and len(answers[0][1]) == len(LINES)
    assert answers[0][1][1] == answers[0][1][4] == ""
    assert all(answer == answers[0] for answer in answers)


def test_samples_depend_on_the_seed(system, run):
    seeds = ("1", "1", "2")
    first, again, other = (run(system.folder, LINES, "--sample", "--temperature", "0.9", "--seed", n)[1] for n in seeds)
    assert first == again and first != other and len(first) == len(LINES)


def test_unknown_words_are_replaced_by_the_words_attended_to(words, run):
    """All weights are equal, so the first word that the encoder reads is copied: the last one of the line."""
    line = "the dog sees a Zebra"
    assert run(words.folder, [line], "--beam", "1")[1] == [" ".join(["Zebra"] * (2 * 6 + 10))]
    assert run(words.folder, [line], "--beam", "1", "--keep-unknown")[1] == [" ".join(["<unk>"] * (2 * 6 + 10))]


def test_other_programs_can_translate(words, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import search
    import translate

    found = translate.Translator(words.folder, threads=1).translate(["A dog", ""], search.Search(beam=2))
    assert [len(best) for best in found] == [2, 1] and found[1] == [("", 0.0)]
    assert found[0][0][0].split()[0] == "dog" and found[0][0][1] > found[0][1][1]
    assert translate.Translator(words.folder).translate([], search.Search()) == []


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def mix(folder: Path) -> None:
    shutil.copy(folder.with_name("random") / "step.onnx", folder)


MESSAGES = {
    "folder": (lambda f: shutil.rmtree(f), "/encoder.onnx: cannot be read (No such file or directory)."),
    "file": (lambda f: (f / "step.onnx").unlink(), "/step.onnx: cannot be read (No such file or directory)."),
    "encoder": (lambda f: damage(f / "encoder.onnx"), "/encoder.onnx: damaged, or not of an export"),
    "step": (lambda f: damage(f / "step.onnx"), "/step.onnx: damaged, or not of an export"),
    "empty": (lambda f: (f / "step.onnx").write_bytes(b""), "/step.onnx: damaged, or not of an export"),
    "pair": (mix, ": encoder.onnx and step.onnx are not of one export"),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_a_file_that_cannot_be_used_is_one_sentence(words, run, tmp_path, case):
    (change, message), copies = MESSAGES[case], shutil.copytree(words.folder.parent, tmp_path / "copies")
    folder = copies / words.folder.name
    change(folder)
    code, found, errors = run(folder, ["The dog"])
    assert (
        (code, found) == (2, []) and errors.startswith(f"translate.py: {folder}{message}") and errors.count("\n") == 1
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--beam", "0"), "argument --beam: 0, but must be at least 1"),
        (("--n-best", "6"), "argument --n-best: 6, but must be at most --beam, 5"),
        (("--sample", "--temperature", "0"), "argument --temperature: 0, but must be above 0"),
        (("--sample", "--beam", "2"), "Samples are one per sentence"),
    ],
)
def test_a_wrong_option_is_one_sentence(words, run, options, message):
    code, found, errors = run(words.folder, ["The dog"], *options)
    assert (code, found) == (2, []) and message in errors and "Traceback" not in errors


def test_a_text_that_is_not_utf8_is_refused_with_the_line(words, run):
    message = "translate.py: standard input, line 2: not UTF-8. Convert the text to UTF-8.\n"
    assert run(words.folder, b"The dog\nThe \xff\n") == (2, [], message)


@pytest.mark.parametrize("graph", ["encoder_graph", "step_graph"])
@pytest.mark.parametrize("exists", [False, True])
def test_different_graphs_are_not_published(words, tmp_path, monkeypatch, graph, exists):
    folder, original = tmp_path / "exported", getattr(exporting, graph)
    if exists:
        shutil.copytree(words.folder, folder)

    def changed(config, weights, *sizes):
        return original(config, weights | {name: value + 0.01 for name, value in weights.items()}, *sizes)

    monkeypatch.setattr(exporting, graph, changed)
    with pytest.raises(ExportError, match=rf"largest difference is .*, in \w+; at most {TOLERANCE:g} is allowed"):
        export(words.network, words.config, words.vocabularies, folder)
    found = {path.name: path.read_bytes() for path in folder.glob("*")}
    assert found == ({path.name: path.read_bytes() for path in words.folder.iterdir()} if exists else {})


def test_weights_that_are_not_finite_are_not_published(tmp_path):
    system = make_system(tmp_path / "first", attention="none")
    system.network.training.trainable_variables[0].assign(np.full((system.vocabularies.source.vocab_size, 6), np.nan))
    with pytest.raises(ExportError, match=r"The weights source_embedding/embeddings are not finite\. Nothing"):
        export(system.network, system.config, system.vocabularies, tmp_path / "second")
    assert not (tmp_path / "second").exists()
