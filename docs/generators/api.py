"""The pages of the Python names: mkdocstrings replaces each `:::` line with the docstring of the name."""

from __future__ import annotations

PAGES = {  # every name of `keraslm.__all__`, on one page; a test checks that
    "training": ("Training and evaluation", "train evaluate average export Run load_run load_model build_model"),
    "configuration": ("Configuration", "Config ModelConfig DataConfig TrainConfig TransferConfig preset PRESETS"),
    "scoring": (
        "Scoring",
        "load Scorer LineScore TextScore WordScore word_scores score_sets TextCost summarize with_cache tune_cache "
        "TunedCache",
    ),
    "output": ("Tables, files and pictures", "table write_scores ScoreOptions score_files ScoredText"),
    "ngram": ("n-gram models", "load_ngram mix MixedScorer tune_mix TunedMix kenlm"),
    "rescoring": ("n-best lists, lattices and minimal pairs", "rescore rescore_lattices pairs"),
    "filtering": ("Filtering", "filter_documents Criteria"),
    "generation": ("Prediction and generation", "predict predict_from Predictions Prediction generate Sampling"),
    "files": ("Model files and layers", "ModelSession Ensemble ModelInfo State StatefulLSTM"),
}
LINKS = {
    "training": "[Training](../../how-to/training.md) is the guide.",
    "configuration": "[Configuration](../configuration.md) lists every field with its default and source.",
    "scoring": "[Scores of text](../../how-to/scoring.md) is the guide, and defines each number.",
    "output": "[Scores of text](../../how-to/scoring.md) and [many texts](../../how-to/bulk.md) are the guides.",
    "ngram": "[Mixing with an n-gram model](../../how-to/scoring.md#mixing-with-an-n-gram-model) is the guide.",
    "rescoring": "[n-best lists, lattices and minimal pairs](../../how-to/rescoring.md) is the guide.",
    "filtering": "[Filtering a corpus](../../how-to/filtering.md) is the guide.",
    "generation": "[Next words](../../how-to/scoring.md#next-words) defines the probabilities.",
    "files": "[The ONNX file](../onnx-file.md) describes the format.",
}
ERRORS = """\
# Errors

[The catalogue of errors](../errors.md) lists causes, remedies and messages.

::: keraslm.errors
    options:
      members_order: source
      show_root_heading: false
      show_root_toc_entry: false
      filters: ["!^_", "!^shown$", "!^emptiness$", "!^LONGEST$"]
"""


def pages() -> dict[str, str]:
    """The pages in docs/reference/api, by file name."""
    texts = {}
    for name, (title, listed) in PAGES.items():
        items = "\n\n".join(f"::: keraslm.{each}" for each in listed.split())
        texts[f"{name}.md"] = f"# {title}\n\n{LINKS[name]}\n\n{items}\n"
    return {**texts, "errors.md": ERRORS}
