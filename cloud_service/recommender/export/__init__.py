"""From trained weights to ONNX graphs, bundles and the proof that nothing changed on the way."""
