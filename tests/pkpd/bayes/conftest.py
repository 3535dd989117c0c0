"""One fit of theophylline for the whole session, with the product's defaults, into a cache of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pkpd.bayes import Fit, fit
from pkpd.model.library import data_path, load
from pkpd.model.records import Records
from pkpd.model.spec import Model

SEED = 20261121


@pytest.fixture(scope="session")
def model() -> Model:
    return load("theophylline")


@pytest.fixture(scope="session")
def records(model: Model) -> Records:
    return Records.read(data_path("theophylline.csv"), model)


@pytest.fixture(scope="session")
def fit_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cache")
    root.chmod(0o700)
    return root


@pytest.fixture(scope="session")
def theophylline(model: Model, records: Records, fit_cache: Path) -> Fit:
    before = os.environ.get("VTRIAL_CACHE")
    os.environ["VTRIAL_CACHE"] = str(fit_cache)
    try:
        return fit(model, records, seed=SEED)
    finally:
        if before is None:
            del os.environ["VTRIAL_CACHE"]
        else:
            os.environ["VTRIAL_CACHE"] = before
