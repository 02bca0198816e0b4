"""The network: from a configuration to a Keras model that is built, or compiled and ready for `fit()`.

`build_model` returns logits, `nats_model` the cost of each target; `compiled_model` adds loss, optimizer and metric.
"""
