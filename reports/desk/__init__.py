"""What the commands of the front desk do, one file per kind of visitor; `reports.cli` only lists the commands."""
