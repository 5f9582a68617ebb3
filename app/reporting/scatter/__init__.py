"""The interactive chart of a front: what it shows, its script, and how Streamlit mounts it."""
