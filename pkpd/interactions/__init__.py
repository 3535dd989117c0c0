"""Drug-drug interactions: static models of the guidelines, the dynamic model, a library of drugs, matrices of pairs."""
