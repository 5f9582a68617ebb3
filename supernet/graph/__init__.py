"""Networks as graphs: the graph language, tracing torch modules into it, and ONNX files."""
