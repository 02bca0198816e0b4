"""What a run can be exported to besides ONNX: one file per target."""
