"""The reduction in the stream: equal to solving everything and asking NumPy, whatever the chunks, threads and order."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pkpd.engine.build import compiled
from pkpd.engine.solve import solve
from pkpd.engine.sources import Drawn, Given, subsample
from pkpd.engine.status import SolveStatus
from pkpd.engine.stream import Endpoint, Settings, summarise
from pkpd.engine.summary import Grid
from pkpd.ground.errors import InputError
from pkpd.model.regimen import Events, Schedule
from pkpd.model.spec import Model

TEXT = """
vtrial: model/1
name: stream
states: {depot: mg, central: mg, R: "1"}
parameters:
  KA: {typical: 0.9 1/h, iiv: 0.5, status: assumed}
  CL: {typical: 0.4 L/h, iiv: 0.3, status: assumed}
  V: {typical: 8 L, iiv: 0.2, status: assumed}
  KOUT: {typical: 0.1 1/h, status: assumed}
  KM: {typical: 2 mg/L, status: assumed}
equations: |
  C = central/V
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot - CL*C
  R(0) = 1
  d/dt(R) = KOUT*(1 - C/(C + KM)) - KOUT*R
outputs: {CP: {is: C}, RESP: {is: R}}
"""
MODEL = Model.parse(TEXT)
TIMES = np.arange(0.0, 49.0, 3.0)
N = 3000


def _dose(amount: float) -> Schedule:
    z = np.zeros(1)
    return Schedule(z, z + amount, z.astype(np.int32), z, z, z.astype(bool))


def _endpoint(name: str, of: str, kind: str, **options: float | bool) -> Endpoint:
    return Endpoint(name=name, of=of, kind=kind, end=options.pop("end", 48.0), **options)  # type: ignore[arg-type]


ENDPOINTS = (
    _endpoint("CMAX", "CP", "maximum"), _endpoint("AUC", "CP", "area"), _endpoint("NADIR", "RESP", "minimum"),
    _endpoint("TROUGH", "CP", "value"), _endpoint("TMAX", "CP", "time_of_maximum"),
    _endpoint("ABOVE", "CP", "time_above", threshold=3.0), _endpoint("AUCS", "CP", "area", sampled=True),
    _endpoint("TMAXS", "CP", "time_of_maximum", sampled=True),
    _endpoint("BELOWS", "CP", "time_below", threshold=3.0, sampled=True),
)  # fmt: skip
OUTPUTS = {"CP": "C", "RESP": "R"}


def _source(n: int = N) -> Drawn:
    return Drawn(model=MODEL, subjects=range(n), seed=3)


def _all(**options: object):
    given = {"outputs": OUTPUTS, "endpoints": ENDPOINTS, "keep": subsample(3, _source(), 5)} | options
    return summarise(compiled(MODEL), _source(), _dose(100.0), TIMES, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole():
    return _all()


@pytest.fixture(scope="module")
def solution():
    parameters = _source().parameters(0, N)
    return parameters, solve(compiled(MODEL), parameters, Events.shared(_dose(100.0), N), TIMES)


@pytest.mark.parametrize(("threads", "chunk"), [(2, 4096), (1, 1000), (2, 257), (1, 2999)])
def test_same_bits_for_any_threads_and_chunks(whole, threads: int, chunk: int) -> None:
    assert _all(settings=Settings(threads=threads, chunk=chunk)).digest() == whole.digest()


def test_digest_sees_one_changed_bit(whole) -> None:
    endpoints = whole.endpoints.copy()
    counts = whole.counts.copy()
    counts[0, 0, 3, 7] += 1
    assert replace(whole, counts=counts).digest() != whole.digest()
    given = np.nextafter(_source().parameters(0, N), np.inf)
    again = summarise(compiled(MODEL), Given(values=given), _dose(100.0), TIMES, outputs=OUTPUTS, endpoints=ENDPOINTS)
    assert again.digest() != whole.digest()
    assert not np.array_equal(again.endpoints, endpoints)


def test_drawn_subjects_are_those_of_the_population(solution) -> None:
    """Log-normal by the text: mean and sd of the logs within 4 standard errors; any range gives the same rows."""
    logs = np.log(solution[0])
    for column, (typical, sd) in enumerate([(0.9, 0.5), (0.4, 0.3), (8.0, 0.2)]):
        assert abs(logs[:, column].mean() - np.log(typical)) < 4 * sd / np.sqrt(N)
        assert abs(logs[:, column].std() - sd) < 4 * sd / np.sqrt(2 * N)
    assert np.array_equal(_source().parameters(100, 200), solution[0][100:200])
    assert np.ptp(solution[0][:, 3]) == 0.0


@pytest.mark.parametrize("bins", [64, 4096])
def test_percentiles_are_numpys_within_the_stated_resolution(solution, bins: int) -> None:
    levels = [0, 2.5, 5, 25, 50, 75, 95, 97.5, 99.9, 100]
    summary = _all(bins=bins, endpoints=())
    found = summary.percentiles(levels)
    exact = np.percentile(solution[1].values, levels, axis=0)
    assert (np.abs(found.value[:, 0] - exact) <= found.resolution[:, 0]).all()
    width = np.diff(summary.grid.edges(), axis=-1).max(axis=-1)
    inside = (exact > summary.grid.low) & (exact < summary.grid.high)
    assert (found.resolution[:, 0] <= width * (1 + 1e-8))[inside].all()
    assert found.resolution[[0, -1]].max() == 0.0


def test_percentiles_where_the_grid_misses_the_values(solution) -> None:
    """A bad declared grid costs resolution, and says so."""
    grid = Grid.declared([(5.0, 6.0, False), (0.5, 0.6, True)], times=len(TIMES), bins=16)
    found = _all(grid=grid, endpoints=()).percentiles([1, 50, 99])
    exact = np.percentile(solution[1].values, [1, 50, 99], axis=0)
    assert (np.abs(found.value[:, 0] - exact) <= found.resolution[:, 0]).all()


def test_counts_are_of_every_subject(whole) -> None:
    assert (whole.counts.sum(axis=-1) == N).all()
    assert whole.subjects == N
    assert whole.failures("") == {}


def test_endpoints_from_the_solver_are_those_of_fine_sampling(whole, solution) -> None:
    fine = np.linspace(0.0, 48.0, 4801)
    values = solve(compiled(MODEL), solution[0][:20], Events.shared(_dose(100.0), 20), fine).values
    right = {
        "CMAX": values[:, 0].max(axis=1), "NADIR": values[:, 1].min(axis=1), "TROUGH": values[:, 0, -1],
        "AUC": np.trapezoid(values[:, 0], fine, axis=1),
    }  # fmt: skip
    for name, expected in right.items():
        assert whole.how[whole.endpoint_names.index(name)] == "solver"
        np.testing.assert_allclose(whole.endpoint(name)[:20], expected, rtol=2e-5)
    assert np.abs(whole.endpoint("TMAX")[:20] - fine[values[:, 0].argmax(axis=1)]).max() <= 0.0101
    above = 0.01 * (values[:, 0] > 3.0).sum(axis=1)
    assert np.abs(whole.endpoint("ABOVE")[:20] - above).max() <= 0.0101


def test_area_is_dose_over_clearance(whole, solution) -> None:
    """AUC(0-48 h) = (dose - amounts left)/CL: mass balance of the linear part."""
    final = solve(compiled(MODEL), solution[0], Events.shared(_dose(100.0), N), np.array([48.0]))
    ka, cl, v = solution[0][:, 0], solution[0][:, 1], solution[0][:, 2]
    left = final.values[:, 0, 0] * v + 100.0 * np.exp(-ka * 48.0)
    np.testing.assert_allclose(whole.endpoint("AUC"), (100.0 - left) / cl, rtol=1e-6)


def test_endpoints_from_samples(whole, solution) -> None:
    values = solution[1].values
    np.testing.assert_allclose(whole.endpoint("AUCS"), np.trapezoid(values[:, 0], TIMES, axis=1), rtol=1e-13)
    assert np.array_equal(whole.endpoint("TMAXS"), TIMES[values[:, 0].argmax(axis=1)])
    assert dict(zip(whole.endpoint_names, whole.how, strict=True))["TMAXS"] == "samples"
    assert ((whole.endpoint("BELOWS") < 48.0) == (values[:, 0].max(axis=1) > 3.0)).all()


def test_kept_curves_are_whole_and_chosen_by_address(whole, solution) -> None:
    who = whole.curves.subject
    assert len(who) == 5
    assert np.array_equal(whole.curves.values[:, 0], solution[1].values[who])
    later = Drawn(model=MODEL, subjects=range(1000, N), seed=3)
    assert set(subsample(3, later, 5)) >= {w for w in who if w >= 1000}


def test_merging_is_exact_in_any_order(whole) -> None:
    parts = [
        summarise(
            compiled(MODEL), Drawn(model=MODEL, subjects=range(*r), seed=3), _dose(100.0), TIMES, outputs=OUTPUTS,
            endpoints=ENDPOINTS, grid=whole.grid, keep=whole.curves.subject,
        )
        for r in ((0, 700), (700, 2500), (2500, N))
    ]  # fmt: skip
    a, b, c = parts
    for merged in (a.merged(b).merged(c), c.merged(a).merged(b), a.merged(c.merged(b))):
        assert merged.digest() == whole.digest()
        assert np.array_equal(merged.endpoints, whole.endpoints)
    with pytest.raises(InputError, match="same subjects"):
        a.merged(a)
    other = summarise(compiled(MODEL), Drawn(model=MODEL, subjects=range(5), seed=3), _dose(100.0), TIMES, bins=8)
    with pytest.raises(InputError, match="summaries differ"):
        a.merged(other)


def test_groups_hold_the_same_people(solution) -> None:
    """Doubling the dose doubles every concentration: a linear model under two regimens."""
    summary = summarise(
        compiled(MODEL), _source(), {"low": _dose(50.0), "high": _dose(100.0)}, TIMES, outputs={"CP": "C"},
        endpoints=ENDPOINTS[:2],
    )  # fmt: skip
    assert summary.groups == ("low", "high")
    np.testing.assert_allclose(summary.endpoint("AUC", "high"), 2.0 * summary.endpoint("AUC", "low"), rtol=1e-5)
    middle = summary.percentiles([50])
    difference = np.abs(middle.value[0, 1] - 2.0 * middle.value[0, 0])
    assert (difference <= middle.resolution[0, 1] + 2.0 * middle.resolution[0, 0] + 1e-7).all()


def test_events_of_each_subject() -> None:
    amounts = np.linspace(10.0, 90.0, 40)
    events = Events.pack([_dose(a) for a in amounts])
    values = np.repeat(_source().parameters(0, 1), 40, axis=0)
    area = _endpoint("AUC", "C", "area")
    found = summarise(compiled(MODEL), values, events, TIMES, endpoints=(area,), settings=Settings(chunk=7))
    np.testing.assert_allclose(found.endpoint("AUC") / amounts, found.endpoint("AUC")[0] / amounts[0], rtol=1e-5)


def test_failed_subjects_are_counted_and_in_no_histogram() -> None:
    values = _source().parameters(0, 50)
    values[[3, 30], 1] = np.nan
    found = summarise(compiled(MODEL), values, _dose(100.0), TIMES, outputs=OUTPUTS, endpoints=ENDPOINTS)
    assert found.failures("") == {SolveStatus.NOT_FINITE: 2}
    assert (found.counts.sum(axis=-1) == 48).all()
    assert np.isnan(found.endpoints[[3, 30]]).all()
    assert np.isfinite(np.delete(found.endpoints, [3, 30], axis=0)).all()


def test_endpoints_may_go_to_a_file(whole, tmp_path) -> None:
    path = tmp_path / "endpoints.parquet"
    found = _all(spill=path, settings=Settings(chunk=999, threads=2))
    assert found.digest() == whole.digest()
    table = pd.read_parquet(path)
    assert np.array_equal(table[list(whole.endpoint_names)].to_numpy(), whole.endpoints[:, 0])
    with pytest.raises(InputError, match="in a file"):
        found.endpoint("AUC")


def test_memory_does_not_grow_with_subjects() -> None:
    """Endpoints aside, the peak of Python's and NumPy's allocations is that of one chunk."""
    peaks = []
    for n in (2000, 8000):
        _all_of(n)
        tracemalloc.start()
        _all_of(n)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.15 * peaks[0] + 6000 * 24


def _all_of(n: int) -> None:
    summarise(
        compiled(MODEL), _source(n), _dose(100.0), TIMES, endpoints=(_endpoint("MAX", "C", "maximum", sampled=True),),
        bins=64, settings=Settings(chunk=1000),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"outputs": ["CX"]}, "no such state or equation"),
        ({"outputs": []}, "names nothing"),
        ({"endpoints": (_endpoint("A", "X", "area"),)}, "no such output"),
        ({"endpoints": (_endpoint("A", "CP", "area"), _endpoint("A", "CP", "area"))}, "two endpoints"),
        ({"endpoints": (_endpoint("A", "CP", "area", start=3.5, end=4.0, sampled=True),)}, "no sample lies"),
        ({"bins": 1}, "from 2 to"),
        ({"grid": Grid.declared([(1.0, 2.0, False)], times=3)}, "other outputs or times"),
        ({"settings": Settings(chunk=0)}, "at least 1"),
    ],
)
def test_what_does_not_fit_is_said(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        _all(**options)


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "max"}, {"kind": "area", "end": -1.0}, {"kind": "time_above"}, {"kind": "area", "threshold": 1.0}],
)
def test_a_wrong_endpoint_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Endpoint(**({"name": "A", "of": "CP", "end": 1.0} | wrong))  # type: ignore[arg-type]
