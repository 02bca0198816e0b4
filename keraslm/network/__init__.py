"""The language model as a Keras model: embedding, recurrent stack, projection, loss, metric and optimizer.

A `Config` and the size of the vocabulary come in; a compiled `keras.Model` goes out.
"""
