"""Tail inflation: do q and k reach further at long context than at short?"""
