"""The whole pipe as one ONNX graph: written with torch, read without it."""
