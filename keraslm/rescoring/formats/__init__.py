"""The formats of n-best lists, one module per format.

Each module has `rows`, which reads the hypotheses of a file; `scored`, the rows of an utterance with one more score;
and `best`, the row of the best hypothesis.
"""
