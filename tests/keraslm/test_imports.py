"""Imports go one way. A module may import modules of lower levels only, inside functions too."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {"keraslm": ROOT / "keraslm", "keraslm_onnx": ROOT / "export" / "keraslm_onnx"}

BACKENDS = ("jax", "tensorflow", "torch")
LEVELS = [
    # Plain Python.
    {"keraslm.errors", "keraslm.perplexity", "keraslm.signals"},
    {"keraslm.clusters", "keraslm.lock", "keraslm.atomic"},
    {"keraslm.testtime.grid", "keraslm.testtime.options", "keraslm.testtime.variant"},
    {"keraslm.config.fields"},
    {"keraslm.config.model", "keraslm.config.data", "keraslm.config.train"},
    {"keraslm.config"},
    {"keraslm.presets", "keraslm.backend", "keraslm.cells", "keraslm.schedule"},
    # Text: NumPy and tokenizers.
    {f"keraslm.text.{name}" for name in ("pieces", "compression", "counts", "meter", "fingerprint")},
    {"keraslm.text.window_lengths"},
    {"keraslm.text.files", "keraslm.text.encoders"},
    {"keraslm.text.corpus", "keraslm.text.tokenizer", "keraslm.text.documents", "keraslm.text.store"},
    {"keraslm.text.vocabulary", "keraslm.text.importing", "keraslm.text.stream"},
    {"keraslm.text.jobs"},
    {"keraslm.text.workers"},
    {"keraslm.text.encoding"},
    # Scoring: NumPy, onnxruntime and tokenizers.
    {f"keraslm_onnx.{name}" for name in ("contract", "sniff", "state", "batching", "measures")},
    {"keraslm_onnx.device"},
    {"keraslm_onnx.wire", "keraslm_onnx.seal"},
    {"keraslm_onnx.onnx_messages"},
    {"keraslm_onnx.values"},
    {"keraslm_onnx.shapes"},
    {"keraslm_onnx.sizes"},
    {"keraslm_onnx.admission"},
    {"keraslm_onnx.opening"},
    {"keraslm_onnx.session"},
    {"keraslm_onnx.ensemble"},
    {"keraslm_onnx.scorer", "keraslm_onnx.sampler"},
    {"keraslm_onnx.kenlm"},
    {"keraslm_onnx.words", "keraslm_onnx.report.options", "keraslm_onnx.report.numbers", "keraslm_onnx.report.output"},
    {"keraslm_onnx.report.summary", "keraslm_onnx.report.tables", "keraslm_onnx.report.signature"},
    {"keraslm_onnx.report.kenlm_format", "keraslm_onnx.report.srilm_format"},
    {"keraslm_onnx.report.writer"},
    {"keraslm_onnx.pictures.spans", "keraslm_onnx.pictures.escape", "keraslm_onnx.pictures.scale"},
    {"keraslm_onnx.pictures.statistics", "keraslm_onnx.pictures.markup"},
    {"keraslm_onnx.pictures.svg", "keraslm_onnx.pictures.plot"},
    {"keraslm_onnx.pictures.page"},
    # Bulk scoring.
    {"keraslm_onnx.bulk.shards"},
    {"keraslm_onnx.bulk.records"},
    {"keraslm_onnx.bulk.job"},
    {"keraslm_onnx.bulk.worker", "keraslm_onnx.bulk.processes", "keraslm_onnx.bulk.cluster"},
    {"keraslm_onnx.bulk.driver"},
    # Rescoring.
    {"keraslm_onnx.prefixes", "keraslm_onnx.nbest"},
    {"keraslm_onnx.rescoring", "keraslm_onnx.pairs"},
    {"keraslm_onnx.word_errors"},
    # The run folder: no Keras.
    {"keraslm.metrics_file"},
    {"keraslm.run"},
    {"keraslm.weights", "keraslm.plots", "keraslm.checkpoint", "keraslm.run_texts"},
    {"keraslm.resume", "keraslm.averaging"},
    {"keraslm.training_corpus"},
    # Keras.
    {"keraslm.layers.kernels.pieces", "keraslm.losses", "keraslm.dataset", "keraslm.machine", "keraslm.progress"},
    {f"keraslm.layers.kernels.{op}_{backend}" for op in ("lstm", "cross_entropy", "scan") for backend in BACKENDS},
    {f"keraslm.layers.kernels.adaptive_{backend}" for backend in BACKENDS},
    {"keraslm.layers.kernels.dispatch", "keraslm.metrics"},
    {"keraslm.layers.masks"},
    {"keraslm.layers.recurrent", "keraslm.layers.tied"},
    {
        f"keraslm.layers.{layer}"
        for layer in ("lstm", "gru", "rnn", "mogrifier", "cross_entropy", "adaptive", "sampled", "dropout", "embedding")
    },
    {"keraslm.layers.cells", "keraslm.layers.mixture", "keraslm.seeded"},
    {"keraslm.projection"},
    {"keraslm.layers.activation_regularization", "keraslm.epoch"},
    {"keraslm.model", "keraslm.optimizers.base", "keraslm.testtime.dynamic_optimizer"},
    {f"keraslm.optimizers.updates_{backend}" for backend in BACKENDS},
    {"keraslm.optimizers.sgd", "keraslm.optimizers.adamw"},
    {"keraslm.compile"},
    {"keraslm.variables"},
    {"keraslm.divergence"},
    {"keraslm.callbacks"},
    {"keraslm.checkpointing"},
    {"keraslm.training", "keraslm.evaluation"},
    {"keraslm.testtime.dynamic_step"},
    {"keraslm.testtime.dynamic"},
    {"keraslm.testtime.dynamic_tuning"},
    {"keraslm.testtime.reader"},
    {"keraslm.testtime.temperature", "keraslm.testtime.cache", "keraslm.testtime.ensemble"},
    {"keraslm.testtime.monte_carlo"},
    {"keraslm.testtime.techniques"},
    {"keraslm.api"},
    # Export.
    {"keraslm_onnx.outputs", "keraslm_onnx.verify", "keraslm_onnx.simplify"},
    {"keraslm_onnx.recurrent", "keraslm_onnx.quantize"},
    {"keraslm_onnx.graph"},
    {"keraslm_onnx.convert"},
    # The command line.
    {"keraslm.commands.flags"},
    {f"keraslm.commands.{verb}" for verb in ("train", "evaluate", "export", "score", "rescore", "pairs")},
    {f"keraslm.commands.{verb}" for verb in ("generate", "tokenize", "show", "average")},
    {"keraslm.cli"},
]
LEVEL_OF = {module: number for number, level in enumerate(LEVELS) for module in level}
# Public names, resolved lazily: these import from any level, and nothing but the version is imported from them.
PACKAGES = {
    "keraslm",
    "keraslm_onnx",
    "keraslm_onnx.report",
    "keraslm_onnx.pictures",
    "keraslm_onnx.bulk",
    "keraslm.text",
    "keraslm.testtime",
    "keraslm.layers",
    "keraslm.layers.kernels",
    "keraslm.optimizers",
    "keraslm.commands",
}
FRAMEWORKS = {"keras", "jax", "tensorflow", "torch", "tf2onnx"}
WITHOUT_KERAS = [module for module in LEVEL_OF if LEVEL_OF[module] < LEVEL_OF["keraslm.losses"]]
WITHOUT_KERAS += [module for module in LEVEL_OF if module.startswith(("keraslm.commands.", "keraslm.cli"))]


def module_of(path, package, folder):
    parts = (package, *path.relative_to(folder).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


MODULES = {
    module_of(path, package, folder): path for package, folder in SOURCES.items() for path in folder.rglob("*.py")
}


def imports_of(path):
    """Modules that a file imports anywhere; for a name of a package, the module that the name is, or the name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}:{node.lineno}: a relative import"
            named = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from named if node.module in PACKAGES else [node.module]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_module_has_a_level(module):
    assert module in LEVEL_OF or module in PACKAGES, f"{module} is new: give it a level in LEVELS"


@pytest.mark.parametrize("module", sorted(LEVEL_OF))
def test_every_level_names_modules_that_exist(module):
    assert module in MODULES


@pytest.mark.parametrize("module", sorted(MODULES.keys() - PACKAGES))
def test_a_module_imports_lower_levels_only(module):
    ours = [name for name in imports_of(MODULES[module]) if name.split(".")[0] in SOURCES]
    for name in ours:
        if name == "keraslm.__version__":
            continue
        assert name in LEVEL_OF, f"{module} imports {name}, which is no module of a level"
        assert LEVEL_OF[name] < LEVEL_OF[module], f"{module} imports {name}, which stands no lower"


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.split(".")[0] == "keraslm"))
def test_only_commands_import_the_export_package(module):
    users = [name for name in imports_of(MODULES[module]) if name.split(".")[0] == "keraslm_onnx"]
    assert not users or module.startswith("keraslm.commands.")


@pytest.mark.parametrize("module", sorted(WITHOUT_KERAS))
def test_the_light_half_names_no_framework(module):
    assert not {name.split(".")[0] for name in imports_of(MODULES[module])} & FRAMEWORKS


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_packages_import_ours_for_type_checkers_only(package):
    tree = ast.parse(MODULES[package].read_text(encoding="utf-8"))
    guarded = [node for block in tree.body if isinstance(block, ast.If) for node in ast.walk(block)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and node not in guarded:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert not any(name.split(".")[0] in SOURCES or name in FRAMEWORKS for name in names)
