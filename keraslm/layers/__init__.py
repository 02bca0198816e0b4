"""Keras layers that Keras itself lacks: recurrent layers that carry their state, dropout and softmaxes.

They run on JAX, TensorFlow and torch. `kernels/` holds the operations that training spends its time in.
"""
