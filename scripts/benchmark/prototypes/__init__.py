"""Prototypes of what may speed up training on CUDA: small, measured by gpu.py, used by nothing else.

What proves its worth moves into the package, with the issue on CUDA.
"""
