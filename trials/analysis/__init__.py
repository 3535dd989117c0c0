"""Analyses of trials, batched over replicates; import the modules directly."""
