"""The server around the pages: who may talk to it, its memory, and a race of Streamlit's that it works around."""
