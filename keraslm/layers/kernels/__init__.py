"""The operations that training spends its time in, with one implementation per backend.

`dispatch` holds the public functions, states what they compute, and calls the implementation of the current backend:

    lstm, scan                              recurrent_jax, recurrent_tensorflow, recurrent_torch
    cross_entropy, adaptive_cross_entropy   softmax_jax, softmax_tensorflow, softmax_torch

All but `scan` have a hand-written backward pass. `benchmarks/README.md` compares their speed.
"""

BUDGET = 256 * 2**20  # bytes of logits held at once; 700 tokens and 10,000 words take 28 MB


def rows_per_piece(rows: int, vocab_size: int) -> int:
    """Return how many rows of float32 logits to compute at once: all rows if they fit the budget.

    Example:
        >>> rows_per_piece(700, 10_000), rows_per_piece(700, 1_000_000)
        (700, 67)
    """
    return max(1, min(rows, BUDGET // (vocab_size * 4)))
