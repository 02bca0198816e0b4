"""The operations that training spends its time in, with one implementation per backend.

`dispatch` holds the public functions. It calls `recurrent_*` for `lstm` and `scan`, and `softmax_*` for `cross_entropy`
and `adaptive_cross_entropy`. All but `scan` have a hand-written backward pass.
"""

BUDGET = 256 * 2**20  # bytes of logits in memory at once; 700 tokens and 10,000 words take 28 MB


def rows_per_piece(rows: int, vocab_size: int) -> int:
    """The number of rows of float32 logits to compute at once: all rows if they fit the budget."""
    return max(1, min(rows, BUDGET // (vocab_size * 4)))
