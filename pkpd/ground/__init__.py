"""What everything stands on: errors, the YAML door, units, chance by address, digests, files."""
