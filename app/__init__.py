"""The Streamlit app: pages in the order of the work, over the method and its figures."""
