"""`keraslm export`"""

from pathlib import Path

from keraslm.run import LATEST


def export(model: Path = Path("model.onnx"), /, *, run: Path = LATEST) -> None:
    """Write a run as one ONNX file, verified before it is published.

    The file holds the network, its tokenizer and its metadata. It is compared with Keras on several batch sizes and
    lengths, state carried in chunks against one pass, and appears only when all agree.

    Parameters
    ----------
    model
        The file to write; an older one is replaced.
    run
        Run folder.
    """
    from keraslm_onnx.convert import export as export_run

    print(f"export    {run} -> {model}: converting in a process of its own", flush=True)
    report = export_run(run, model)
    print(
        f"verified  {report['cases']} shapes; largest difference Keras - onnxruntime "
        f"{report['largest_difference']:.2e} nats, one pass - chunks {report['chunked_difference']:.2e} nats"
    )
    print(f"graph     {report['lstm_nodes']} LSTM nodes, no loop, all weights finite")
    print(f"done      {model} ({report['bytes'] / 1e6:.1f} MB)")
