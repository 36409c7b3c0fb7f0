"""What the pages share. Only `choice`, `words` and `paths` are free of Streamlit."""
