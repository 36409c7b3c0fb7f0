"""The interpolation chosen by what it does to the next token: in full precision, and on the quantized model."""
