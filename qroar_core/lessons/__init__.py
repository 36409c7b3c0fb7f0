"""Teaching computations: one small pure function a lesson, on the maths the software itself runs.

A lesson takes a few numbers that a person sets by hand and returns a dataclass of `lessons/result.py`. No
model is loaded; frequencies come from transformers' initialisers through `interpolations/rope_without_model.py`, and
real q and K are those of one head of the demo model, which come with the dashboard.
"""
