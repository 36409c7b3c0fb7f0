"""From a button to a background job and back: one file a stage, each with `key`, `start` and `result`.

Every job's key says what it computes, so that a reload, another page or a second tab finds it again.
What runs in the worker never calls Streamlit.
"""
