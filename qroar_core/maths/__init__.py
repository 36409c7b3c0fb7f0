"""Pure functions on torch tensors: no transformers, no files, no model objects.

Conventions everywhere: q (n_heads, tokens, head_dim), k and v (n_kv_heads, tokens, head_dim); query
head h reads KV head h // (n_heads // n_kv_heads); pair i turns by inv_freq[i] rad/token.
"""
