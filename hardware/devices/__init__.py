"""Device backends, one per file: how a model is loaded, run and timed somewhere."""
