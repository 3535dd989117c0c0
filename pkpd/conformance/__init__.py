"""Conformance: identities that hold for any model if text and engine are right; `conformance.suite.examine(model)`."""
