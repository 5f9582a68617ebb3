"""The Streamlit explorer of run directories."""
