"""The calibration that comes with the package: written by `tools/calibrate_interactions.py`, read here."""

from __future__ import annotations

import hashlib
import io
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from pkpd.interactions.calibration import Calibration
from pkpd.interactions.model import Layout

__all__ = ["PATH", "library_digest", "shipped", "to_bytes"]

ROOT: Final = Path(__file__).resolve().parent
PATH: Final = ROOT / "library" / "calibration.npz"


def library_digest() -> str:
    """SHA-256 over the library's texts: a calibration belongs to one library.

    >>> len(library_digest())
    64
    """
    found = hashlib.sha256()
    for path in sorted((ROOT / "library").glob("*.yaml")):
        found.update(path.name.encode() + b"\x00" + path.read_bytes())
    return found.hexdigest()


def to_bytes(known: Calibration, *, source: str) -> bytes:
    """The calibration as an npz without objects; the covariance by a root in single precision."""
    value, vector = np.linalg.eigh(known.covariance)
    of, file = known.layout, io.BytesIO()
    np.savez_compressed(
        file, names=np.array(of.names), mean=of.mean, sd=of.sd, theta=known.theta,
        root=(vector * np.sqrt(np.maximum(value, 0.0))).astype(np.float32),
        hyper_names=np.array(list(known.hyper)), hyper=np.array(list(known.hyper.values())),
        pairs=np.array(["|".join(pair) for pair in known.pairs]), rows=np.array(list(known.pairs.values())),
        score_names=np.array(list(known.scores)), scores=np.array(list(known.scores.values())),
        library=np.array(library_digest()), source=np.array(source),
    )  # fmt: skip
    return file.getvalue()


@lru_cache(maxsize=1)
def shipped() -> Calibration:
    """The package's calibration. Errors: ValueError when the library has changed since (run the tool again)."""
    with np.load(PATH, allow_pickle=False) as file:
        held = {name: file[name] for name in file.files}
    if str(held["library"]) != library_digest():
        raise ValueError("the library of drugs has changed since its calibration: tools/calibrate_interactions.py")
    layout = Layout(names=tuple(held["names"].tolist()), mean=held["mean"], sd=held["sd"])
    root = held["root"].astype(np.float64)
    pairs = {(p, v): int(n) for (p, v), n in zip((t.split("|") for t in held["pairs"].tolist()), held["rows"])}
    return Calibration(
        layout=layout, theta=held["theta"], covariance=root @ root.T,
        hyper=dict(zip(held["hyper_names"].tolist(), held["hyper"].tolist())), pairs=pairs,
        scores=dict(zip(held["score_names"].tolist(), held["scores"].tolist())),
    )  # fmt: skip
