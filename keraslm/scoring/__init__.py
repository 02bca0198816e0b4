"""Score text with model files, with NumPy and onnxruntime only.

A model file and lines of text come in; log-probabilities of tokens, words and lines come out, or generated text, or the
most probable next words.
"""
