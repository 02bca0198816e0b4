"""keraslm_export: a trained run becomes an ONNX file."""
