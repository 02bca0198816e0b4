"""Comparison of texts that share prefixes: n-best lists, word error rates and minimal pairs.

A model and lists of alternatives come in; scores, the best alternative and error counts go out.
"""
