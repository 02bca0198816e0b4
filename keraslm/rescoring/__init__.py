"""Comparison of texts that share prefixes: n-best lists, lattices, word error rates and minimal pairs.

A model and alternatives come in, as lists or as lattices; scores, the best alternative and error counts go out.
"""
