"""The operations that training spends its time in, with one implementation a backend.

    operation       JAX                TensorFlow                torch
    lstm            lstm_jax           lstm_tensorflow           lstm_torch
    cross_entropy   cross_entropy_jax  cross_entropy_tensorflow  cross_entropy_torch
    scan            scan_jax           scan_tensorflow           scan_torch

All have the same arguments, batch first. Each has its own backward pass but `scan`, the loop of all cells other than
the plain LSTM, which the backend differentiates. `dispatch` chooses. Which is fast where, and why, is told in
`benchmarks/README.md`.
"""
