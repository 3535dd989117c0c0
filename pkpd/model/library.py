"""The models and data files that come with the package (`pkpd/library`)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

from pkpd.ground.errors import InputError
from pkpd.ground.text import nearest
from pkpd.model.spec import Model

__all__ = ["data_path", "load", "model_path", "models"]

ROOT: Final = Path(__file__).resolve().parent.parent / "library"


def models() -> tuple[str, ...]:
    """Names of the library's models.

    >>> "theophylline" in models()
    True
    """
    return tuple(sorted(path.stem for path in ROOT.glob("*.yaml")))


def model_path(name: str) -> Path:
    """The text of a library model. Errors: InputError with the nearest name."""
    if name not in models():
        raise InputError("no such model in the library", value=name, remedy=nearest(name, models()))
    return ROOT / f"{name}.yaml"


@lru_cache(maxsize=32)
def load(name: str) -> Model:
    """A library model.

    >>> load("theophylline").eta_names
    ('KA', 'CL', 'V')
    """
    return Model.read(model_path(name))


def data_path(name: str) -> Path:
    """A library data file by its file name, such as `theophylline.csv`."""
    files = {path.name: path for path in (ROOT / "data").glob("*.csv")}
    if name not in files:
        remedy = f"{nearest(name, files)}; a file of your own: its path"
        raise InputError("no such data file in the library", value=name, remedy=remedy)
    return files[name]
