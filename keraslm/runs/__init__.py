"""The run folder: configuration, tokenizer, weights, checkpoints, metrics and learning curve.

A path comes in; a `Run`, its weights or a `Checkpoint` go out. Nothing here needs Keras.
"""
