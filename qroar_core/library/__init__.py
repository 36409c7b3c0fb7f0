"""What `import qroar_core` offers: the stages as functions of a model and a `Setup`, and results that show themselves.

Nothing here computes. Each function fills in the `Setup` for the model, calls the stage and returns its result with
`plot`, `summary`, `save` and `load`.
"""
