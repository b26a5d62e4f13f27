"""Predictors: their definitions, quantiles that are what they say, and the LSTM against torch's."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.lstm import untrained

from vlacut.errors import BundleError, InputError
from vlacut.hardware import Trace
from vlacut.runtime.network.conformal import LEVELS
from vlacut.runtime.network.lstm import Features, Lstm, read_weights, write_weights
from vlacut.runtime.network.predictors import NAMES, PREDICTORS, Predictor, make_predictor
from vlacut.simulation.scores import samples_of, score, split_recordings
from vlacut.simulation.training import Trained, train


def fed(predictor: Predictor, samples: Iterator[float] | list[float]) -> Predictor:
    for sample in samples:
        predictor.update(sample)
    return predictor


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_weights(tmp_path / "lstm.npz", untrained(0))
    return tmp_path / "lstm.npz"


_LEARNING = 1000
SERIES = [4e6, 1e6, 0.0, 2e6, 8e6, 3e6, 5e6]


def test_point_forecasts_by_their_definitions() -> None:
    assert fed(make_predictor("last"), SERIES).predict() == 5e6
    mean = SERIES[0]
    for sample in SERIES[1:]:
        mean = 0.6 * max(sample, 1e3) + 0.4 * mean
    assert fed(make_predictor("ewma"), SERIES).predict() == pytest.approx(mean)
    inverse = [1 / max(sample, 1e3) for sample in SERIES[-5:]]
    assert fed(make_predictor("harmonic"), SERIES).predict() == pytest.approx(5 / sum(inverse))
    level, trend = SERIES[0], 0.0
    for sample in SERIES[1:]:
        before, level = level, 0.65 * max(sample, 1e3) + 0.35 * (level + 0.9 * trend)
        trend = 0.05 * (level - before) + 0.95 * 0.9 * trend
    assert fed(make_predictor("holt"), SERIES).predict() == pytest.approx(
        max(0, level + 0.9 * trend)
    )


def test_the_autoregression_finds_what_a_series_repeats() -> None:
    """x(t) = m - 0.8 (x(t-1) - m) + noise: whoever knows it errs by the noise alone."""
    numbers = np.random.default_rng(1)
    samples, value = [], 0.0
    for _ in range(3000):
        value = -0.8 * value + numbers.normal(0, 0.15)
        samples.append(1e6 * (1 + value))
    errors = {}
    for name in ("ar", "last", "ewma"):
        predictor = fed(make_predictor(name), samples[:2000])
        misses = []
        for sample in samples[2000:]:
            misses.append(abs(predictor.predict() - sample))
            predictor.update(sample)
        errors[name] = float(np.mean(misses))
    assert errors["ar"] < 1.1 * 1e6 * 0.15 * math.sqrt(2 / math.pi)
    assert errors["ar"] < 0.6 * min(errors["last"], errors["ewma"])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(PREDICTORS)),
    st.lists(st.one_of(st.just(0.0), st.floats(0, 1e10)), min_size=1, max_size=60),
)
def test_any_series_has_a_forecast(name: str, samples: list[float]) -> None:
    predictor = fed(make_predictor(name), samples)
    point = predictor.predict()
    quantiles = [predictor.predict(q) for q in np.linspace(0, 1, 21)]
    assert math.isfinite(point)
    assert point >= 0
    assert quantiles == sorted(quantiles)
    assert quantiles[0] >= 0
    assert predictor.predict() == point  # asking changes nothing


def series(kind: str, count: int = 6000) -> np.ndarray:
    numbers = np.random.default_rng(7)
    walk = np.exp(14 + 0.15 * numbers.standard_t(3, count))
    if kind == "drifting":
        walk *= np.exp(np.cumsum(numbers.normal(0, 0.05, count)) % 2)
    if kind == "switching":  # of a level, and of how noisy it is
        walk = np.where(np.arange(count) // 500 % 2, walk**2 / np.exp(15), walk)
    if kind == "with outages":
        walk[numbers.random(count) < 0.03] = 0
    return walk


@pytest.mark.parametrize("kind", ["noise", "drifting", "switching", "with outages"])
@pytest.mark.parametrize("name", NAMES)
def test_a_quantile_is_one(name: str, kind: str, model: Path) -> None:
    """Also of an LSTM that nobody trained: the correction asks nothing of the forecast."""
    if name in ("last", "harmonic", "holt") and kind != "switching":
        pytest.skip("the same wrapper as around ewma")
    predictor = make_predictor(name, model)
    below = {0.05: 0, 0.1: 0, 0.5: 0}
    samples = series(kind)
    for index, sample in enumerate(samples.tolist()):
        if index >= _LEARNING:
            for level in below:
                below[level] += sample < predictor.predict(level)
        predictor.update(sample)
    for level, count in below.items():
        assert count / (len(samples) - _LEARNING) == pytest.approx(level, abs=0.01)


def test_what_cannot_be_predicted_is_refused(tmp_path: Path) -> None:
    predictor = make_predictor("ewma")
    with pytest.raises(InputError, match="without a sample"):
        predictor.predict()
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="bandwidth of"):
            predictor.update(wrong)
    predictor.update(1e6)
    with pytest.raises(InputError, match=r"quantile 1\.5"):
        predictor.predict(1.5)
    with pytest.raises(InputError, match="no predictor 'best'; there are last, ewma"):
        make_predictor("best")
    with pytest.raises(InputError, match="compile with --predictor"):
        make_predictor("lstm")


@pytest.mark.parametrize("seed", range(2))
def test_the_lstm_is_torch_s(seed: int) -> None:
    weights = untrained(seed)
    cell = torch.nn.LSTM(2, 8, batch_first=True)
    with torch.no_grad():
        cell.weight_ih_l0.copy_(torch.tensor(weights.input))
        cell.weight_hh_l0.copy_(torch.tensor(weights.state))
        cell.bias_ih_l0.copy_(torch.tensor(weights.bias))
        cell.bias_hh_l0.zero_()
    samples = series("with outages", 200)
    network, features = Lstm(weights), Features()
    seen, bases, ours = [], [], []
    for sample in np.maximum(samples, 1e3).tolist():
        network.update(sample)
        ours.append([math.log(network.point), *network.centre])
        *inputs, base = features.step(sample)
        seen.append(inputs)
        bases.append(base)
    with torch.no_grad():
        hidden = cell(torch.tensor([seen], dtype=torch.float32))[0][0].numpy()
    theirs = hidden @ weights.output.T + weights.output_bias + np.array(bases)[:, None]
    np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_a_file_that_is_no_predictor_says_why(tmp_path: Path, model: Path) -> None:
    with np.load(model) as arrays:
        right = {name: arrays[name] for name in arrays.files}
    assert np.array_equal(read_weights(model).state, untrained(0).state)
    wrong = {
        "format 1": {"format": np.array(2)},
        "bias is not an array": {"bias": np.zeros(3, np.float32)},
        "output is not finite": {"output": right["output"] * np.nan},
        "levels, interval": {"levels": LEVELS / 2},
    }
    for message, changed in wrong.items():
        np.savez(tmp_path / "wrong.npz", **{**right, **changed})
        with pytest.raises(BundleError, match=message):
            read_weights(tmp_path / "wrong.npz")
    (tmp_path / "wrong.npz").write_bytes(model.read_bytes()[:500])
    with pytest.raises(BundleError, match="cannot be read as a predictor"):
        read_weights(tmp_path / "wrong.npz")
    with pytest.raises(BundleError, match="cannot be read as a predictor"):
        read_weights(tmp_path / "none.npz")


def recordings() -> dict[str, list[np.ndarray]]:
    """Bandwidths that swing around a level with a period: to be learnt, by no mean of the last."""
    made = {}
    for index in range(12):
        numbers = np.random.default_rng(index)
        phase = 2 * np.pi * np.arange(1200) / 6 + index
        noise = numbers.normal(0, 0.05, 1200)
        made[f"r{index}"] = [np.exp(12 + index / 4 + 0.5 * np.sin(phase) + noise)]
    return made


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train(recordings(), 0.1, epochs=40)


def test_training_learns_what_simple_predictors_cannot(trained: Trained, tmp_path: Path) -> None:
    write_weights(tmp_path / "lstm.npz", trained.weights)
    assert not set(trained.fitted) & set(trained.kept)
    assert trained.losses[-1] < trained.losses[0]
    kept = [piece for name in trained.kept for piece in recordings()[name]]
    found = score(lambda: make_predictor("lstm", tmp_path / "lstm.npz"), kept)
    simple = min(score(PREDICTORS[name], kept).mae for name in ("last", "ewma", "harmonic", "holt"))
    assert found.mae < 0.6 * simple
    assert found.covered == pytest.approx(0.9, abs=0.01)


def test_training_again_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_weights(tmp_path / name, train(recordings(), 0.1, epochs=2).weights)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_too_little_to_train_on_is_said() -> None:
    few = {name: [pieces[0][:200]] for name, pieces in list(recordings().items())[:3]}
    with pytest.raises(InputError, match="3 recordings of"):
        train(few, 0.1)


def test_a_trace_is_sampled_by_its_integral() -> None:
    trace = Trace((1e6, 3e6, 0.0, 2e6), (0.1, 0.1, 0.1, 0.1))
    assert trace.sampled(0.1) == pytest.approx(trace.rates)
    assert trace.sampled(0.2) == pytest.approx((2e6, 1e6))
    assert trace.sampled(0.15) == pytest.approx((5e6 / 3, 1e6))
    assert trace.sampled(0.05) == pytest.approx([rate for rate in trace.rates for _ in range(2)])
    coarse = {"a": [trace], "b": [replace(trace, seconds=(1.0,) * 4)]}
    found, left_out = samples_of(coarse, 0.1)
    assert list(found) == ["a"]
    assert left_out == 1
    with pytest.raises(InputError, match=re.escape("no trace has steps of 50 ms or less")):
        samples_of(coarse, 0.05)


@given(st.sets(st.text(min_size=1), min_size=2, max_size=40))
def test_a_split_parts_the_recordings(names: set[str]) -> None:
    fitted, kept = split_recordings(list(names))
    assert fitted
    assert kept
    assert sorted(fitted + kept) == sorted(names)
