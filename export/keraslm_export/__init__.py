"""The conversion of a trained run to a model file, with TensorFlow, tf2onnx and onnx.

A run comes in; a verified ONNX file goes out: convert -> softmax -> graph, quantize -> verify.
"""
