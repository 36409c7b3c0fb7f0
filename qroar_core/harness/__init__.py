"""Tasks of lm-evaluation-harness on the model as every stage runs it: interpolated, quantized and transformed."""
