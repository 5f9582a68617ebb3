"""What subnetworks cost: cost units, their variants, and dense arrays that add them up."""
