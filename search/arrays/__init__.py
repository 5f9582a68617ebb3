"""Array arithmetic of searches: dominance, sums over units, neighbours and finite pools."""
