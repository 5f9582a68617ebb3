"""Published ideas that no command uses, each with a benchmark that says what it is worth.

``pretraining``: ``benchmarks/pretraining.py``; ``nodewise`` and its ``mixer``:
``benchmarks/layer_statistics.py``; ``epochs``: ``benchmarks/short_training.py``.
"""
