"""Teaching computations: one small pure function a lesson, on the maths the software itself runs.

A lesson takes a few numbers that a person sets by hand and returns a dataclass of `results/lessons.py`. No
model is loaded; frequencies come from transformers' initialisers through `models/rope_plain.py`.
"""
