"""n-best lists and minimal pairs: lists of texts that begin alike come in; scores, best hypotheses, word error rates
and accuracies go out. Each common beginning is computed once.
"""
