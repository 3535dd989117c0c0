"""Batched statistics on pure arrays, one replicate at a time; import the modules directly."""
