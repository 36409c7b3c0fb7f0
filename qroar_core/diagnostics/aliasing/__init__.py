"""Aliasing: phases that training never showed, and distances that a band cannot tell apart."""
