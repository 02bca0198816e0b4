"""What errors and penalties count: words, or characters without white space.

Blanks are no characters here, so that the segmentation of a text in a language without blanks does not matter. Other
programs, such as `jiwer.cer`, count one blank between words. Characters are Unicode code points as they are written: no
text is normalised, so that a composed and a decomposed `é` differ.
"""

from __future__ import annotations

from keraslm.text.pieces import split_words

UNITS = ("word", "char")


def units_of(text: str, unit: str) -> list[str]:
    """The words or characters of a text.

    Example:
        >>> units_of("the  cat ", "word"), units_of("日本 語", "char")
        (['the', 'cat'], ['日', '本', '語'])
    """
    words = split_words(text)
    return words if unit == "word" else [*"".join(words)]
