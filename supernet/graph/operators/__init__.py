"""ATen operators as nodes of a graph, by what they do."""
