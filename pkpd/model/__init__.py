"""What a model is: equations, parameters with their uncertainty, variability, doses, records, and the library."""
