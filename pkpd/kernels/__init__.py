"""Numba kernels on pure arrays. Nothing of ours is imported here; import the modules directly."""
