"""The engine: `compiled(model)` decides how a model is solved, `solve` solves it for any number of subjects."""
