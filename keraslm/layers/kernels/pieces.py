"""How many rows of logits are held at once."""

from __future__ import annotations

BUDGET = 256 * 2**20  # bytes; the logits of 700 tokens over 10,000 words take 28 MB


def rows_of_a_piece(rows: int, vocab_size: int, item_size: int = 4) -> int:
    """Rows of `V` logits in one piece: all of them where they fit the budget.

    Example:
        >>> rows_of_a_piece(700, 10000), rows_of_a_piece(700, 1000000)
        (700, 67)
    """
    return max(1, min(rows, BUDGET // (vocab_size * item_size)))
