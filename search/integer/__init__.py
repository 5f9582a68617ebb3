"""Selection by integer programming where quantities add up."""
