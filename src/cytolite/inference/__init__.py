"""Inference: network output to nuclei, tile by tile over a whole slide. Needs ONNX Runtime, never torch."""
