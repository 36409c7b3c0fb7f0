"""Figures of the Learn page, one file a lesson, from the dataclasses of `lessons/result.py`."""
