"""What a subnetwork is worth: evaluation, batch statistics, audits and exports."""
