"""`keraslm export`"""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from keraslm.runs.run import LATEST


def export(
    model: Path = Path("model.onnx"),
    /,
    *,
    run: Path = LATEST,
    weights: Literal["last", "best"] = "last",
    int8: Annotated[bool, Parameter(negative="")] = False,
    text: Path | None = None,
    tolerance: float = 0.005,
) -> None:
    """Write a run as one ONNX file, verified before it is published.

    The file holds the network, its tokenizer and its metadata. It is compared with Keras on several batch sizes and
    lengths, state carried in chunks against one pass, and appears only when all agree. A file with 8-bit weights is
    about a quarter of the size and faster; it appears only when it has the perplexity of the float32 file.

    Parameters
    ----------
    model
        The file to write; an older one is replaced.
    run
        Run folder.
    weights
        Those after the last epoch, or those of the epoch that validated best.
    int8
        Write 8-bit weights. In such a file, a line's score depends a little on the lines scored with it.
    text
        Text on which --int8 is compared with float32. Default: the run's validation text, or the end of its training
        text.
    tolerance
        Largest relative difference of the two perplexities, for --int8.
    """
    from keraslm.api import load_run
    from keraslm_export.convert import export as export_run

    print(f"export    {run} -> {model}: converting in a process of its own", flush=True)
    trained = load_run(run, weights)
    report, cell = export_run(trained, model, int8=int8, text=text, tolerance=tolerance), trained.config.model.cell
    print(
        f"verified  {report['cases']} shapes; largest difference Keras - onnxruntime "
        f"{report['largest_difference']:.2e} nats, one pass - chunks {report['chunked_difference']:.2e} nats"
    )
    print(f"graph     {report[f'{cell}_nodes']} {cell.upper()} nodes, no loop, all weights finite")
    if int8:
        print("\n".join(_int8_rows(report["int8"])))
    print(f"done      {model} ({report['bytes'] / 1e6:.1f} MB)")


def _int8_rows(found: dict[str, Any]) -> list[str]:
    perplexity, size, speed = found["perplexity"], found["bytes"], found["tokens_per_second"]
    return [
        f"int8      perplexity {perplexity[0]:.3f} -> {perplexity[1]:.3f} ({100 * found['difference']:+.3f} %) on "
        f"{found['tokens']:,} tokens of {found['text']}",
        f"          {size[0] / 1e6:.1f} MB -> {size[1] / 1e6:.1f} MB; "
        f"{speed[0]:,.0f} -> {speed[1]:,.0f} tokens a second ({speed[1] / speed[0]:.1f} times)",
    ]
