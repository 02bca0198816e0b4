"""Log-probabilities and generated text from a model file, with NumPy, onnxruntime and tokenizers only.

The path of a model file and lines of text come in; scores per token go out. `contract` states what a model file
contains.
"""
