"""Run directories: opening them, and the trained supernets and latency tables in them."""
