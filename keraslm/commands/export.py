"""`keraslm export`"""

from pathlib import Path

from keraslm.commands.flags import Switch, Weights
from keraslm.errors import UsageError
from keraslm.scoring.targets import ONNX, Target, reader_of


def export(
    model: Path = Path("model.onnx"),
    /,
    *,
    run: Path = Path("runs/latest"),
    weights: Weights = "last",
    target: Target = ONNX,
    all_checkpoints: Switch = False,
    int8: Switch = False,
    text: Path | None = None,
    tolerance: float = 0.005,
) -> None:
    """Write a run as one ONNX file, for keraslm or for a different program.

    The file for keraslm holds the network, its tokenizer and its metadata. Every file is compared with Keras on several
    batch sizes and lengths, in one pass and in chunks with the state carried, and appears only if all results agree. A
    file with 8-bit weights is about a quarter of the size and faster; it appears only if its perplexity agrees with
    that of the float32 file.

    Parameters
    ----------
    model
        File to write; an existing file is replaced. For --target hf or web, the folder.
    run
        Run folder.
    weights
        Weights of the run: after the last epoch, after the epoch with the best validation, or at a number of words,
        such as 1M, at which --save-at-words has kept them.
    target
        Program that the file is for. onnx: keraslm; sherpa-rescoring, sherpa-streaming: sherpa-onnx; rasr: RASR, with a
        vocabulary beside the file; hf: a folder for transformers; web: a folder with a page for browsers. See
        docs/how-to/targets.md.
    all_checkpoints
        With --target hf: write folders chck_1M, chck_2M, ..., one per number of words at which --save-at-words has kept
        the weights.
    int8
        Write 8-bit weights. With them, the score of a line depends slightly on the lines scored with it.
    text
        Text on which --int8 is compared with float32. Default: the run's validation text, or the end of its training
        text.
    tolerance
        Largest relative difference of the two perplexities, for --int8.
    """
    from keraslm.api.runs import load_run
    from keraslm_export.convert import export as export_run

    if all_checkpoints and target != "hf":
        raise UsageError('`all_checkpoints` needs `target="hf"`.')
    if all_checkpoints and (int8 or text or weights != "last"):
        raise UsageError("`all_checkpoints` writes all kept weights in float32: leave out `int8`, `text`, `weights`.")
    trained = load_run(run, weights)
    print(f"export    {run} -> {model}: converting in a new process", flush=True)
    if all_checkpoints:
        from keraslm_export.targets.hf import write_checkpoints

        for name, written in write_checkpoints(trained, model).items():
            print(f"done      {model / name}: largest difference of a logit {written.largest_difference:.2e}")
        return
    report = export_run(trained, model, target=target, int8=int8, text=text, tolerance=tolerance)
    runtime = "transformers" if target == "hf" else "onnxruntime"
    print(
        f"verified  {report.cases} shapes; largest difference Keras - {runtime} "
        f"{report.largest_difference:.2e} nats, {report.ways} {report.chunked_difference:.2e} nats"
    )
    if report.recurrent_nodes:
        network = trained.config.model
        kind, loops = ("Scan", "one loop per layer") if network.own_step else (network.cell.upper(), "no loops")
        print(f"graph     {kind} nodes: {report.recurrent_nodes}; {loops}; all weights finite")
    if report.int8:
        float32, small = report.int8.float32, report.int8.int8
        print(
            f"int8      perplexity {float32.perplexity:.3f} -> {small.perplexity:.3f} "
            f"({100 * report.int8.difference:+.3f} %) on {report.int8.tokens:,} tokens of {report.int8.text}\n"
            f"          {float32.bytes / 1e6:.1f} MB -> {small.bytes / 1e6:.1f} MB; "
            f"{float32.tokens_per_second:,.0f} -> {small.tokens_per_second:,.0f} tokens per second "
            f"({small.tokens_per_second / float32.tokens_per_second:.1f} times)"
        )
    if target != ONNX:
        print(f"target    {target}: read by {reader_of(target)}")
    for path in report.others:
        print(f"done      {path}")
    print(f"done      {model} ({report.bytes / 1e6:.1f} MB)")
