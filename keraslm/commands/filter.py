"""`keraslm filter`"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from keraslm.commands.flags import (
    Errors,
    Integer,
    Others,
    Progress,
    Provider,
    Switch,
    TextName,
    print_note,
    shows_progress,
)
from keraslm.errors import UsageError

if TYPE_CHECKING:
    from keraslm.filtering.criteria import Criteria


@dataclass(frozen=True)
class CriteriaFlags:
    """What is kept.

    Parameters
    ----------
    max_perplexity
        Drop documents with a higher perplexity.
    min_perplexity
        Drop documents with a lower perplexity, such as repeated boilerplate.
    max_bits_per_byte
        Drop documents with more bits per byte.
    min_bits_per_byte
        Drop documents with fewer bits per byte.
    keep
        Of the documents within these bounds, keep a share, such as 0.3: those with the lowest perplexity. The sample
        decides the threshold.
    bucket
        Names of buckets from the lowest to the highest perplexity, such as head,middle,tail. Adds the field bucket to
        all documents within the bounds, and keeps them.
    cutoffs
        Highest perplexity of each bucket except the last, such as 30,300. Default: divide the sample equally.
    sample
        Number of documents that are read ahead for --keep, or for --bucket without --cutoffs. The thresholds are
        quantiles of their perplexity, and decide about these documents, too.
    """

    max_perplexity: float | None = None
    min_perplexity: float | None = None
    max_bits_per_byte: float | None = None
    min_bits_per_byte: float | None = None
    keep: float | None = None
    bucket: str | None = None
    cutoffs: str | None = None
    sample: Integer = 10_000

    def checked(self) -> Criteria:
        from keraslm.filtering.criteria import Criteria

        names = [name.strip() for name in self.bucket.split(",")] if self.bucket else None
        return Criteria(**vars(self) | {"bucket": names, "cutoffs": _numbers(self.cutoffs) if self.cutoffs else None})


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(map(float, text.split(",")))
    except ValueError:
        raise UsageError(f"`cutoffs` is {text!r}, but numbers between commas are expected, such as 30,300.") from None


def filter(
    model: Path,
    /,
    *files: TextName,
    criteria: Annotated[CriteriaFlags, Parameter(name="*", group=Group("Criteria", sort_key=1))] = CriteriaFlags(),
    field: Annotated[str, Parameter(name=("--field", "--text-column"))] = "text",
    input_format: Literal["auto", "text", "csv", "tsv", "raw", "jsonl"] = "auto",
    paragraphs: Switch = False,
    output: Path | None = None,
    format: Annotated[Literal["text", "csv", "tsv", "raw", "jsonl"] | None, Parameter(name="--format")] = None,
    label: str | None = None,
    histogram: Path | None = None,
    workers: Integer = 1,
    scheduler: str | None = None,
    others: Others = (),
    provider: Provider = "auto",
    errors: Errors = "strict",
    encoding: str = "utf-8",
    progress: Progress = "auto",
) -> None:
    """Filter the documents of a corpus by perplexity, or divide them into buckets, as they are read.

    keraslm filter model.onnx docs.jsonl.gz --max-perplexity 300 > good.jsonl

    keraslm filter model.onnx docs.jsonl.gz --bucket head,middle,tail --output 'docs.{bucket}.jsonl.gz'

    Prints the documents that are kept, in order, with all their fields and three more: perplexity (per token),
    bits_per_byte and tokens. Documents without a text are dropped. Counts and thresholds go to standard error.

    Parameters
    ----------
    model
        Model file written by keraslm export.
    files
        Documents, plain or compressed (gz, bz2, xz, zst): files, folders, or patterns such as 'crawl/*.jsonl.gz'. - or
        no file: standard input.
    field
        Field of JSON, or column of a table, with the text. A text may have several lines.
    input_format
        auto: a table if the name ends with .csv or .tsv, plain text if with .txt, perhaps compressed; otherwise JSON
        Lines. text: each line is a document. raw: cells between tabs without quotes.
    paragraphs
        In plain text, blank lines separate the documents.
    output
        File instead of standard output, compressed if its name ends in .gz. It appears when it is complete. With
        {bucket} in its name: one file per bucket.
    format
        Format of the output. text: the documents without scores. Default: that of the input.
    label
        Put before the names of the added fields: lm gives lm_perplexity.
    histogram
        Also write a picture of the distribution of perplexity with the thresholds, e.g. perplexity.png.
    workers
        Number of processes. The output is the same with any number.
    scheduler
        Address of a Dask scheduler, e.g. tcp://host:8786, whose workers are used instead.
    others
        Another model file with the same tokenizer, to average probabilities with; may be repeated.
    provider
        Where onnxruntime computes. auto: CUDA if available, else the CPU.
    errors
        Invalid bytes. strict: stop with file:line:byte; replace: read U+FFFD, and count the lines.
    encoding
        Encoding of the text, such as latin-1, cp1252, gb18030 or utf-16.
    progress
        auto: show progress on standard error if it is a terminal without documents on it; none: never.
    """
    from keraslm.filtering.driver import filter_documents
    from keraslm.text.files import TextFile
    from keraslm.text.paths import STDIN

    filter_documents(
        [model, *others],
        files,
        output,
        criteria.checked(),
        field=field,
        input_format=input_format,
        paragraphs=paragraphs,
        format=format,
        label=label,
        histogram=histogram,
        workers=workers,
        scheduler=scheduler,
        errors=errors,
        encoding=encoding,
        provider=provider,
        show=shows_progress(progress, [*map(TextFile, files or (STDIN,))], output is None),
        log=print_note,
    )
