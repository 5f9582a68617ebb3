"""Devices, measurements on them, and latency tables validated on whole networks."""
