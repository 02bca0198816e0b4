"""Whether a vocabulary fits a text: a perplexity over unknown tokens looks good and means nothing."""

from __future__ import annotations

from keraslm.config import TOKENIZERS, DataConfig
from keraslm.errors import TextError
from keraslm.perplexity import LARGE_UNKNOWN
from keraslm.system import Log
from keraslm.text.store import EncodedText

FEW = 10  # words; a vocabulary of fewer is a mistake or a toy
LONG = 20  # characters per word; those of natural languages have 5 to 9 on average


def check_known(text: EncodedText, vocab_size: int, data: DataConfig, log: Log, kept: bool = False) -> None:
    """Say what does not fit, and name a tokenizer that does; `kept`: the tokenizer is that of a trained run.

    Raises:
        TextError: a larger share of the text than `max_unknown` is unknown, or the text has no words.
    """
    counts = text.counts
    inner = counts.tokens - counts.lines
    if counts.lines and not inner:
        raise TextError(f"{text.name}: {counts.lines:,} lines without a word. Use a text with words.")
    share = counts.oovs / inner if inner else 0.0
    if share > LARGE_UNKNOWN:
        advice = _ADVICE_KEPT if kept else _advice(data)
        found = f"{text.name}: {100 * share:.0f} % of the tokens in its lines are <unk>. {advice}"
        if share > data.max_unknown:
            raise TextError(f"{found} To train on it nevertheless, use `max_unknown=1`.")
        log(f"          {found}")
    elif data.tokenizer == "word" and counts.characters > LONG * counts.words:
        long = f"{counts.characters / counts.words:.0f} characters per word"
        log(f"          {text.name}: {long}; is it written without blanks between words? {_ALTERNATIVE}")
    if data.tokenizer == "word" and vocab_size - 2 < FEW:
        log(f"          a vocabulary of {vocab_size - 2} words predicts little. {_ALTERNATIVE}")


_ALTERNATIVE = 'Every text can be represented with `tokenizer="char"` or `tokenizer="bpe"`.'
_ADVICE_KEPT = "Words are added to the vocabulary of a trained run with `extend_vocab`."


def _advice(data: DataConfig) -> str:
    if data.tokenizer not in TOKENIZERS:
        return (
            f"{data.tokenizer} does not fit this text. If its tokens are subwords, use the tokenizer.json or the "
            "sentencepiece .model that splits words into them."
        )
    if data.tokenizer == "word":
        return f"{_ALTERNATIVE} A larger `vocab_size` or a lower `min_count` keeps more words."
    return 'Use a larger `vocab_size` or a lower `min_count`, or `tokenizer="bpe"`, which represents every text.'
