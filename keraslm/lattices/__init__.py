"""Word lattices: the graphs of hypotheses that a speech recogniser writes.

A model and lattices of HTK or Kaldi come in; the best texts, n-best lists and lattices with new scores go out.
"""
