"""`keraslm score`"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from keraslm.commands.caching import NO_CACHE, Caching, CachingFlags, open_cached, print_reach, settings_of
from keraslm.commands.flags import (
    Errors,
    Integer,
    Json,
    OptionalInteger,
    Others,
    Progress,
    Provider,
    Switch,
    TextName,
    open_files,
    print_note,
    shows_progress,
)
from keraslm.commands.mixing import NO_NGRAM, Mixing, MixingFlags, Opening, open_scorer, print_known, weight_of
from keraslm.commands.table_flags import NO_TABLE, Table
from keraslm.errors import UsageError

if TYPE_CHECKING:
    from keraslm.ngram.mixed import MixedScorer
    from keraslm.report.options import ScoreOptions
    from keraslm.scoring.scorer import Scorer
    from keraslm.text.files import TextFiles


@dataclass(frozen=True)
class _Pictures:
    """Where the pictures of a text go."""

    html: Path | None
    plot: Path | None

    def __bool__(self) -> bool:
        return bool(self.html or self.plot)


def score(
    model: Path,
    /,
    *files: TextName,
    level: Literal["token", "word", "region", "sentence", "summary"] | None = None,
    format: Annotated[
        Literal["tsv", "csv", "raw", "jsonl", "kenlm", "srilm"] | None, Parameter(name="--format")
    ] = None,
    columns: str | None = None,
    base: Literal["2", "e", "10"] | None = None,
    unk: Literal["include", "exclude"] = "include",
    spaces: Literal["before", "after"] = "before",
    context: Literal["sentence", "paragraph", "document"] | None = None,
    eos: bool = True,
    frequencies: Path | None = None,
    table: Table = NO_TABLE,
    lines_ahead: Integer = 4096,
    others: Others = (),
    output: Path | None = None,
    html: Path | None = None,
    plot: Path | None = None,
    workers: OptionalInteger = None,
    scheduler: str | None = None,
    resume: Switch = False,
    overwrite: Switch = False,
    gzip: Switch = False,
    signature: Switch = False,
    provider: Provider = "auto",
    errors: Errors = "strict",
    encoding: str = "utf-8",
    as_json: Json = False,
    progress: Progress = "auto",
    mixing: MixingFlags = NO_NGRAM,
    caching: CachingFlags = NO_CACHE,
) -> None:
    """Score text with a model file: log-probability and surprisal of each token, word or line.

    keraslm score model.onnx text.txt --level word

    keraslm score model.onnx stimuli.csv --text-column sentence

    Prints tab-separated rows with a header: logprob in nats, surprisal in bits, ids counted from 1 over all files.
    Every line has its rows; a blank line has one, for its end symbol. A table is printed with the scores added.

    Parameters
    ----------
    model
        Model file written by keraslm export.
    files
        Texts, one sentence per line, plain or compressed (gz, bz2, xz, zst): files, folders, or patterns such as
        'texts/*.txt'. - or no file: standard input.
    level
        One row per token, per word (between white space), per region or per line, or one summary of everything.
        Default: token; sentence (a row per row) for a table.
    format
        tsv, csv or jsonl: a table; raw: tsv without quotes around cells that contain quotation marks, for cut and awk;
        kenlm: as KenLM's query prints; srilm: as SRILM's ngram -ppl -debug prints. Default: tsv; for a table, that of
        the input.
    columns
        Columns of the table, separated by commas. token: sentence_id, token_id, token, id, logprob, surprisal, rank,
        entropy, entropy_reduction, oov, start, end. word: sentence_id, word_id, word, tokens, logprob, surprisal,
        entropy, entropy_reduction, oov, start, end, length, frequency, region. region: region_id, region, text and
        those of words. sentence: sentence_id, tokens, oovs, words, characters, bytes, logprob, surprisal, perplexity,
        bits_per_token, bits_per_character, bits_per_byte. For words and regions, surprisal_lag1 and
        surprisal_lag2 are the surprisal one and two places earlier; also logprob, entropy, entropy_reduction, length,
        frequency.
    base
        Base of every logarithm. Default: nats for log-probabilities, bits for surprisal and entropy.
    unk
        exclude: leave the tokens of unknown words out of sums and counts; their rows remain, without a number.
    spaces
        The word that the space between two words belongs to: the second (before it), as subword tokenizers write it, or
        the first (after it), the correction of Pimentel and Meister 2024. For --level word and region.
    context
        How far the state is carried: through each line, through each paragraph up to a blank line, or through each
        file, or each text of a table. Default: sentence; document for a table.
    eos
        Score the end symbol of each line; of a table, that after each text.
    frequencies
        Words and their counts, one pair per line, for the column frequency: occurrences per million words.
    lines_ahead
        Lines read ahead and scored together. Use 1 for interactive input.
    others
        Another model file with the same tokenizer, to average probabilities with; may be repeated.
    output
        File for the scores instead of standard output, compressed if its name ends in .gz. It appears when it is
        complete. With --workers or --scheduler: folder with one file of scores per text.
    html
        Also write a page that shows the text coloured by surprisal.
    plot
        Also write a picture of surprisal, e.g. surprisal.png.
    workers
        Number of processes that score several texts at a time, each text into its own file in --output.
    scheduler
        Address of a Dask scheduler, e.g. tcp://host:8786, whose workers do so instead.
    resume
        Skip the texts that are finished in --output.
    overwrite
        Replace scores in --output from an earlier job; never other files.
    gzip
        Compress the files in --output.
    signature
        Print model, tokenizer and settings of the scores, on standard error and in a summary.
    provider
        Where onnxruntime computes. auto: CUDA if available, else the CPU.
    errors
        Invalid bytes. strict: stop with file:line:byte; replace: read U+FFFD, keep the rows, and count the lines.
    encoding
        Encoding of the text, such as latin-1, cp1252, gb18030 or utf-16.
    progress
        auto: show progress on standard error if it is a terminal without rows on it; none: never.
    as_json
        Print the summary as one JSON object.
    """
    from keraslm.report.options import ScoreOptions
    from keraslm.report.table_input import input_format
    from keraslm.text.paths import find_files

    kind = input_format(find_files(files)[0], table.input_format, table.text_column)
    level = level or ("sentence" if kind else "token")
    if as_json and level != "summary":
        raise UsageError("--json prints the summary: add --level summary. For rows as JSON, use --format jsonl.")
    options = ScoreOptions(
        level=level,
        format="jsonl" if as_json else format or kind or "tsv",
        columns=tuple(name.strip() for name in columns.split(",")) if columns else None,
        base=base,
        unk=unk,
        context=context or ("document" if kind else "sentence"),
        lines_ahead=lines_ahead,
        spaces=spaces,
        signature=signature,
        eos=eos,
        separator=table.separator,
        frequencies=None if frequencies is None else str(frequencies.absolute()),
        table=table.columns(kind),
    )
    models, pictures = [model, *others], _Pictures(html, plot)
    if pictures and (options.table or workers is not None or scheduler is not None):
        raise UsageError("--html and --plot show one text: leave out --text-column, --workers and --scheduler.")
    if mixing.ngram and (pictures or options.needs_distributions):
        raise UsageError(
            "Ranks, entropies, --html and --plot need complete distributions, but a mixture with an n-gram model "
            "computes the probabilities of the words of the text only. Leave them out, or --ngram."
        )
    if mixing.ngram and caching.neural_cache:
        raise UsageError("A neural cache and an n-gram model are not combined: leave out --neural-cache or --ngram.")
    if workers is None and scheduler is None:
        if resume or overwrite or gzip:
            raise UsageError("--resume, --overwrite and --gzip need --workers or --scheduler.")
        source = open_files(files, errors, encoding)
        _score_here(models, source, output, options, pictures, provider, mixing, caching, progress)
        return
    if output is None:
        raise UsageError("--workers and --scheduler score each text into its own file: add --output FOLDER.")
    from keraslm.bulk.driver import score_files

    opening = Opening(provider, errors, encoding, options.context)
    score_files(
        models,
        files,
        output,
        options,
        workers=1 if workers is None else workers,
        scheduler=scheduler,
        resume=resume,
        overwrite=overwrite,
        gzip=gzip,
        provider=provider,
        errors=errors,
        encoding=encoding,
        log=print_note,
        ngram=mixing.ngram,
        ngram_weight=weight_of(models, mixing, opening),
        **vars(settings_of(models, caching, opening)),
    ).check()
    print_reach(caching, opening)


def _score_here(
    models: list[Path],
    source: TextFiles,
    output: Path | None,
    options: ScoreOptions,
    places: _Pictures,
    provider: str,
    mixing: Mixing,
    caching: Caching,
    progress: Progress,
) -> None:
    from keraslm.report.writer import opened_output, signature, write_records, write_scores
    from keraslm.system.outputs import check_outputs, is_device
    from keraslm.system.progress import progress as shown_progress
    from keraslm.text.files import name_of, replaced_note
    from keraslm.text.paths import STDIN

    texts = source.files
    outputs = {"output": output, "html": places.html, "plot": places.plot}
    read: list[str | Path] = [*mixing.files, *caching.files, *([options.frequencies] if options.frequencies else [])]
    check_outputs(outputs, [*models, *(text.path for text in texts), *read])
    opening = Opening(provider, source.errors, source.encoding, options.context)
    scorer = open_cached(models, caching, opening) if caching.neural_cache else open_scorer(models, mixing, opening)
    name = name_of(texts)
    pictures = _pictures(scorer, name, options, places)
    # Whoever writes standard input may wait for an answer.
    at_once = (output is None or is_device(output)) and any(text.path == STDIN for text in texts)
    prints = output is None and options.level != "summary"
    shows = shows_progress(progress, texts, prints)
    with opened_output(output) as out, shown_progress("scoring", shows, source) as count:
        if options.table:
            write_records(scorer, texts, options, out, at_once, count)
        else:
            lines = chain.from_iterable(chain(text, [None]) for text in texts)
            watchers = [picture.add for picture in pictures.values()]
            write_scores(scorer, lines, options, out, at_once, watchers, name, count)
    for path, picture in pictures.items():
        picture.write(path)
        if note := getattr(picture, "note", ""):
            print_note(note)
    if options.signature:
        print_note(f"signature {signature(scorer, options)}")
    print_known(scorer)
    print_reach(caching, opening)
    for text in texts:
        if text.replaced:
            print_note(replaced_note(text.name, text.replaced))


def _pictures(scorer: Scorer | MixedScorer, title: str, options: ScoreOptions, places: _Pictures) -> dict[Path, Any]:
    from keraslm.system import VERSION

    found: dict[Path, Any] = {}
    if places.html:
        from keraslm.pictures.page import HtmlReport
        from keraslm.scoring.cached import parameters_of

        members = scorer.session.members
        names, digests = (" + ".join(each) for each in zip(*((m.path.name, m.digest) for m in members), strict=True))
        facts = {"model": names, "sha256": digests, "context": options.context, "keraslm": VERSION}
        facts |= {"spaces": options.spaces} if options.spaces == "after" else {}
        facts |= parameters_of(scorer.session)
        found[places.html] = HtmlReport(scorer.tokenizer, title, facts, options=options)
    if places.plot:
        from keraslm.pictures.plot import SurprisalPlot

        found[places.plot] = SurprisalPlot(scorer.tokenizer, title, options)
    return found
