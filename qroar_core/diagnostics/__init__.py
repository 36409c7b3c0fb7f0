"""The diagnostics of docs/method.md section 3, one folder each.

`measure.py` counts on tensors, `result.py` is what the file keeps, `figure.py` draws it. Beside them: what rides on the
passes (observers) and how meters become a `Diagnosis` (assemble).
"""
