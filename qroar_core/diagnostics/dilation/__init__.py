"""Dynamic-range dilation: how the range of K grows along the context, and the bits that costs."""
