"""The steps of the Learn page: one file a step, each a question, controls, a figure and its answer."""
