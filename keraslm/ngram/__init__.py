"""N-gram models, and their mixture with a scorer.

An ARPA file or a KenLM binary comes in; log-probabilities of the words of a sentence go out, alone or mixed word by
word with those of a `Scorer`. The weight of the mixture is given, or found on a text by EM.
"""
