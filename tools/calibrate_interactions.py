"""Fit the interaction model to a table of observed AUC ratios and write the calibration that the package ships.

python tools/calibrate_interactions.py ../shared/data/ddi/observed_auc_ratios.csv
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from pkpd.ground.store import write_atomic
from pkpd.interactions.calibration import fit, prepare
from pkpd.interactions.library import TURNOVER, drugs
from pkpd.interactions.model import layout
from pkpd.interactions.observed import read_studies
from pkpd.interactions.predictive import crossvalidate
from pkpd.interactions.shipped import PATH, to_bytes

SOURCE = (
    "179 observed AUC ratios of 59 pairs, selected from the Open Systems Pharmacology Database-for-observed-data "
    "(commit 27ba692), each with its publication"
)


def main() -> int:
    """The whole table; with it the scores of five folds by pair, so that whoever uses it can say how far it holds."""
    library = drugs()
    studies, without = read_studies(Path(sys.argv[1]), library)
    of = layout(library, TURNOVER)
    scores = crossvalidate(studies, library, of).score()
    known = replace(fit(prepare(studies, library, of)), scores=scores)
    write_atomic(PATH, to_bytes(known, source=SOURCE))
    size = PATH.stat().st_size
    print(", ".join(f"{name} {value:.3f}" for name, value in scores.items()))
    print(f"{len(studies)} studies, {len(without)} without inputs, {known.iterations} steps, {size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
