"""Axis anisotropy: does the error of a quantized pair depend on its angle?"""
