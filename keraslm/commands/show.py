"""`keraslm show`"""

import json
import math
from pathlib import Path
from typing import Any

from keraslm.commands.flags import Json


def show(path: Path, /, *, as_json: Json = False) -> None:
    """Describe a run folder or a model file: layers, sizes, configuration, tokenizer, perplexities, digests.

    Of a file for a different program (keraslm export --target): the target, who reads it, and its inputs, outputs and
    metadata. Of the folder of target web: the model file in it.

    Parameters
    ----------
    path
        Run folder (e.g. runs/latest), or file or folder written by keraslm export.
    as_json
        Print one JSON object.
    """
    facts = _folder_facts(path) if path.is_dir() else _model_facts(path)
    if as_json:
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            print(name)
            for key, inner in value.items():
                print(f"  {key:<24} {_text(inner)}")
        else:
            print(f"{name:<26} {_text(value)}")


def _folder_facts(path: Path) -> dict[str, Any]:
    """Facts about a run folder, a folder for transformers, or the model file in a folder for browsers."""
    from keraslm.scoring.targets import HF, WEB, reader_of

    if config := _transformers_config(path):
        version = config.pop("keraslm_version", None)
        facts = {"file": str(path), "target": HF, "read by": reader_of(HF), "written by": f"keraslm {version}"}
        return facts | {"configuration": config}
    model = path / "model.onnx"
    if (path / "config.json").exists() or not (path / "index.html").is_file() or not model.is_file():
        return _run_facts(path)
    return _model_facts(model) | {"target": WEB, "read by": reader_of(WEB)}


def _transformers_config(folder: Path) -> dict[str, Any] | None:
    """The sizes and ids in the `config.json` of a folder for transformers; None for any other folder."""
    from keraslm.scoring.targets import HF_TYPE

    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(config, dict) or config.get("model_type") != HF_TYPE:
        return None
    return {name: value for name, value in config.items() if name not in ("model_type", "architectures", "auto_map")}


def _run_facts(path: Path) -> dict[str, Any]:
    import hashlib

    from keraslm.errors import RunError
    from keraslm.runs.averaging import described
    from keraslm.runs.checkpoint import CheckpointStore
    from keraslm.runs.run import Run
    from keraslm.runs.weights import read_note

    run = Run.open(path)
    if not run.weights_path.is_file():
        raise RunError(f"{path}: no weights yet; no epoch was finished since the training began or was resumed.")
    epochs, averaged, row = run.epochs(), run.averaged(), run.row_of(run.weights_path)
    epoch = read_note(run.weights_path).get("epoch") or (row or {}).get("epoch")
    checkpoints = CheckpointStore(run.checkpoints_path).names()
    return {
        "file": str(path.resolve()),
        **_sizes(run.config.model, run.tokenizer.vocab_size),
        **_without_hidden_sizes(run.config.to_dict()),
        "epochs trained": len(epochs),
        **_origin_facts(run.origin),
        **({"average of": tuple(map(described, averaged["averaged"]))} if averaged else {}),
        "weights of epoch": epoch and int(epoch),
        **({"metrics": f"of other weights than {run.weights_path.name}"} if row is None else {}),
        "perplexity": (row or {}).get("perplexity"),
        "validation perplexity": (row or {}).get("val_perplexity"),
        **({"weights at words": [*at_words]} if (at_words := run.weights_at_words()) else {}),
        "checkpoint": checkpoints[-1] if checkpoints else None,
        "tokenizer sha256": run.tokenizer.digest,
        "weights sha256": hashlib.sha256(run.weights_path.read_bytes()).hexdigest(),
    }


def _origin_facts(origin: Any) -> dict[str, Any]:
    """Where the initial weights of a run came from."""
    from keraslm.runs.averaging import described

    facts: dict[str, Any] = {}
    if weights := origin.get("weights"):
        facts |= {"initial weights": described(weights), "initial weights sha256": weights.get("sha256")}
        facts |= {"new words": new} if (new := origin.get("new_words")) else {}
    if vectors := origin.get("embeddings"):
        facts["initial embeddings"] = f"{vectors.get('words')} words of {vectors.get('file')}"
        facts["initial embeddings sha256"] = vectors.get("sha256")
    return facts


def _model_facts(path: Path) -> dict[str, Any]:
    from keraslm.scoring.opening import read_sealed
    from keraslm.scoring.session import ModelSession
    from keraslm.scoring.targets import ONNX, reader_of, target_of

    data, digest = read_sealed(path)
    if (target := target_of(data)) != ONNX:
        return _foreign_facts(path, data, target, digest)
    session = ModelSession(path, "cpu")
    info = session.info
    config = info.configuration(str(path))
    return {
        "file": str(path),
        "target": ONNX,
        "read by": reader_of(ONNX),
        "written by": f"keraslm {info.keraslm_version}",
        **_sizes(config.model, info.vocab_size),
        **_without_hidden_sizes(config.to_dict()),
        "validation perplexity": info.valid_perplexity if math.isfinite(info.valid_perplexity) else None,
        "unk_id": info.unk_id,
        "eos_id": info.eos_id,
        "tokenizer sha256": info.tokenizer_sha256,
        "model sha256": session.digest,
    }


def _foreign_facts(path: Path, data: bytes, target: str, digest: str) -> dict[str, Any]:
    """Facts about a file that a different program reads."""
    from keraslm.scoring import targets
    from keraslm.scoring.opening import open_session
    from keraslm.scoring.seal import KEY

    session, _ = open_session(path, data, "cpu", None)
    metadata = session.get_modelmeta().custom_metadata_map
    version = metadata.pop("keraslm_version", None)
    return {
        "file": str(path),
        "target": target,
        "read by": targets.reader_of(target),
        "written by": f"keraslm {version}",
        "inputs": {value.name: _tensor(value) for value in session.get_inputs()},
        "outputs": {value.name: _tensor(value) for value in session.get_outputs()},
        "metadata": {name: metadata[name] for name in sorted(metadata.keys() - {targets.KEY, KEY})},
        "model sha256": digest,
    }


def _tensor(value: Any) -> str:
    """Type and shape of an input or output, e.g. `int64 [N, L]`."""
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    return f"{'float32' if kind == 'float' else kind} [{', '.join(map(str, value.shape))}]"


def _without_hidden_sizes(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without the number and size of layers if `layer_units` replaces them."""
    if not config["model"].get("layer_units"):
        return config
    return {**config, "model": {k: v for k, v in config["model"].items() if k not in ("num_layers", "units")}}


def _sizes(model: Any, vocab_size: int) -> dict[str, Any]:
    from keraslm.config.shapes import weight_shapes

    shapes = weight_shapes(model, vocab_size)
    parameters = sum(math.prod(shape) for shape in shapes.values())
    return {"vocabulary": vocab_size, "parameters": parameters, "layers": shapes}


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 100 else f"{value:,.2f}"
    if isinstance(value, tuple | list):
        if all(isinstance(item, str) for item in value):
            return " ".join(value)
        return (" x " if isinstance(value, tuple) else ", ").join(map(_text, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
