"""Perplexity of a text under a trained run, and the techniques that improve it at test time.

A `Run` and a text come in; an `Evaluation` with one `Variant` per technique goes out.
"""
