"""Training with `fit()`: texts, windows, learning rates, callbacks, checkpoints and progress.

A `Config` comes in, with the previous run if one is resumed; a run folder with trained weights goes out.
"""
