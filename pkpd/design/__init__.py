"""Designs of studies: what a sampling schedule can tell about a model, and which times tell most."""
