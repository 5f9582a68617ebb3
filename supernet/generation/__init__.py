"""Text from language models token by token: in torch, under ONNX Runtime, with a draft."""
