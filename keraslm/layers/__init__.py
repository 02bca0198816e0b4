"""Keras layers that Keras lacks: stateful recurrent layers, softmaxes for large vocabularies, locked dropout.

Tensors come in and tensors go out; the layers work in any Keras model. The operations that need most of the time are
in `kernels`.
"""
