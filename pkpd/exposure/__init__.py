"""Non-compartmental analysis, average bioequivalence, dose proportionality: names in `pkpd`, docs/exposure.md."""
