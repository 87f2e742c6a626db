"""Ranges for INT8: percentiles agree with NumPy's of all values, and entropy with what MXNet finds by itself."""

import numpy as np
import pytest

from spos.core.errors import InputError
from spos.deploy.calibration import MOST_BINS, NUM_BINS, Calibration, PercentileCollector, count_percentile
from spos.engine.compat import mx

METHODS = ("naive", "percentile", "entropy")


def ranges_of(calibration, *batches):
    collector = calibration.collector()
    for values in batches:
        collector.observe("x", np.asarray(values, np.float32))
    return collector.ranges()["x"]


def draw(rng, kind, size):
    if kind == "normal":
        return rng.normal(0, 1, size)
    if kind == "heavy tails":
        return rng.standard_t(2, size)
    if kind == "many scales":
        return rng.normal(0, 1, size) * 10 ** rng.uniform(-20, 20, size)
    return np.maximum(rng.normal(-1, 1, size), 0)  # "relu"


@pytest.mark.parametrize("percentile", (0.5, 50, 99, 99.9, 99.99, 100))
@pytest.mark.parametrize("kind", ("normal", "heavy tails", "many scales", "relu"))
def test_percentiles_are_those_of_all_values(rng, kind, percentile):
    batches = [draw(rng, kind, (40, 5, 10, 10)) * scale for scale in (1, 1e-3, 30)]  # ranges grow and shrink
    collector = PercentileCollector(percentile)
    for batch in batches:
        collector.observe("x", batch.astype(np.float32))
    values = np.abs(np.concatenate(batches).astype(np.float32))
    expected = np.percentile(values.astype(np.float64), percentile)
    assert count_percentile(collector._counts["x"], percentile) == pytest.approx(expected, rel=2**-8, abs=1e-30)


@pytest.mark.parametrize("values", ([3.0], [0.0, 5.0], [1.0, 1.0, 100.0], [-2.0, 2.0]))
def test_percentiles_of_few_values(values):
    for percentile in (1, 50, 90, 100):
        largest = PercentileCollector(percentile)
        largest.observe("x", np.array(values, np.float32))
        expected = np.percentile(np.abs(values), percentile)
        assert count_percentile(largest._counts["x"], percentile) == pytest.approx(expected, rel=2**-8)


def test_memory_does_not_grow_with_the_images(rng):
    collector = PercentileCollector(99)
    for scale in (1, 1e30, 1e-30):
        collector.observe("x", (rng.normal(0, 1, (64, 100)) * scale).astype(np.float32))
    assert collector._counts["x"].shape == (NUM_BINS,) and collector._counts["x"].sum() == 3 * 6400


@pytest.mark.parametrize("method", METHODS)
def test_ranges_are_below_0_where_values_are(rng, method):
    values = rng.normal(0, 1, (20, 1000))
    calibration = Calibration(method, 99.9)
    low, high = ranges_of(calibration, values)
    assert low < 0 < high and (method == "naive" or low == -high)
    low, high = ranges_of(calibration, np.abs(values))
    assert 0 <= low < high and (method == "naive" or low == 0)


def test_the_order_of_batches_does_not_matter(rng):
    batches = [rng.normal(0, scale, (10, 100)) for scale in (1, 3, 0.1)]
    for method in ("naive", "percentile"):
        assert ranges_of(Calibration(method), *batches) == ranges_of(Calibration(method), *batches[::-1])
        assert ranges_of(Calibration(method), *batches) == ranges_of(Calibration(method), np.concatenate(batches))


def test_naive_and_the_hundredth_percentile_keep_the_largest_value(rng):
    values = rng.normal(0, 1, (10, 100)).astype(np.float32)
    assert ranges_of(Calibration("naive"), values) == (values.min(), values.max())
    assert ranges_of(Calibration("percentile", 100), values)[1] == pytest.approx(np.abs(values).max(), rel=2**-8)


def test_a_percentile_of_0_keeps_the_largest_value():
    assert ranges_of(Calibration("percentile", 90), [0.0] * 99 + [5.0]) == (0, 5)


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_of_zeros_has_an_empty_range(method):
    assert ranges_of(Calibration(method), np.zeros(1000)) == (0, 0)


def test_entropy_is_that_of_mxnet(rng):
    library = mx.contrib.quantization
    batches = [rng.normal(0, scale, 4000).astype(np.float32) for scale in (1, 1.2)]
    handles = [mx.nd.array(batch) for batch in batches]  # collect() takes handles, and these keep the memory
    theirs = library._LayerHistogramCollector(include_layer=["x"])
    for array in handles:
        copy = array.copy()
        theirs.collect(b"x", copy.handle)
        copy.handle = None  # freed by the collector
    expected = library._get_optimal_thresholds(theirs.hist_dict, "auto")["x"]
    assert ranges_of(Calibration("entropy"), *batches) == pytest.approx([float(np.ravel(end)[0]) for end in expected])


def test_entropy_of_values_far_from_0(rng):
    """MXNet's answer is the smallest value. Seen behind the stem, on images of one background."""
    values = rng.uniform(0.2, 2.5, 4000).astype(np.float32)
    assert ranges_of(Calibration("entropy"), values) == (values.min(), values.max())


@pytest.mark.parametrize("small", (0, 1e-6, 0.1))
def test_entropy_of_values_that_grow(rng, small):
    """MXNet's own histogram keeps its first step: 8 billion bins here, or a division by 0."""
    values = rng.normal(0, 1, 4000)
    collector = Calibration("entropy").collector()
    for batch in (values * small, values):
        collector.observe("x", batch.astype(np.float32))
    counts, edges, *_ = collector._histograms["x"]
    assert counts.sum() == 8000 and len(counts) + 1 == len(edges) and len(counts) <= MOST_BINS and len(counts) % 2 == 1
    at = np.searchsorted(edges, np.sort(np.concatenate([values * small, values]))[[2000, 4000, 6000]])
    assert np.searchsorted(np.cumsum(counts), [2000, 4000, 6000]) == pytest.approx(at, abs=3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", (np.nan, np.inf, -np.inf))
def test_values_that_are_not_finite_are_refused(rng, method, bad):
    values = rng.normal(0, 1, 1000)
    values[500] = bad
    with pytest.raises(InputError, match="cannot be quantized by these images: values of x"):
        ranges_of(Calibration(method), np.ones(1000), values, np.ones(1000))


@pytest.mark.parametrize(
    "options, words",
    (
        (("kl",), "'kl' is not known: naive, percentile, entropy"),
        (("percentile", 0), "above 0 and at most 100, not 0"),
        (("percentile", 100.5), "not 100.5"),
        (("percentile", float("nan")), "not nan"),
    ),
)
def test_bad_options(options, words):
    with pytest.raises(InputError) as caught:
        Calibration(*options)
    assert words in str(caught.value)
