"""What a handful of seeds can say: means with intervals, paired differences, and many tests at once.

SciPy does the primitives; Holm's correction, which it lacks, is ours. A nominal 95 % interval over n seeds of a
normal quantity covers 95 % with Student's t, whatever n; a percentile bootstrap covers less, about 90 % at n = 10
and 83 % at n = 5. So the t interval is the one to quote, and the bootstrap goes with the interquartile mean (IQM),
which has no t interval. A deterministic controller has one value, not a sample of seeds: its intervals are NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from scipy import stats

TRIMMED = 0.25  # share cut off at each end: the interquartile mean (Agarwal et al. 2021)
LEVEL = 0.95  # of every interval
RESAMPLES = 9999
SEED = 0  # of the bootstrap, so that the same values give the same interval
Sample: TypeAlias = Sequence[float] | np.ndarray | pd.Series


class Estimate(NamedTuple):
    """A value with its interval; low and high are NaN where the sample gives none."""

    value: float
    low: float
    high: float


class Comparison(NamedTuple):
    """The paired difference of two samples, first minus second."""

    pairs: int  # seeds or weeks that both have
    difference: float  # mean
    half: float  # half width of its t interval, NaN for fewer than two pairs
    p: float  # paired t test, two-sided


def _clean(values: Sample) -> np.ndarray:
    sample = np.asarray(values, dtype=float)
    return sample[~np.isnan(sample)]


def half_width(values: Sample) -> float:
    """Half width of the Student-t interval of the mean; NaN for fewer than two values. NaNs are left out."""
    sample = _clean(values)
    if len(sample) < 2:
        return float("nan")
    return float(stats.t.ppf(0.5 + LEVEL / 2, len(sample) - 1) * sample.std(ddof=1) / np.sqrt(len(sample)))


def mean(values: Sample) -> Estimate:
    """The mean with its Student-t interval."""
    sample, half = _clean(values), half_width(values)
    middle = float(sample.mean()) if len(sample) else float("nan")
    return Estimate(middle, middle - half, middle + half)


def iqm(values: Sample, resamples: int = RESAMPLES) -> Estimate:
    """The interquartile mean with its percentile-bootstrap interval.

    Args:
        values: one a seed; NaNs are left out.
        resamples: bootstrap samples.

    Returns:
        The mean of the middle half (of five values: of the middle three), and an interval that covers less
        than `LEVEL` for few values (see the module).

    Source:
        ``scipy.stats.trim_mean``, ``scipy.stats.bootstrap``.
    """
    sample = _clean(values)
    if len(sample) == 0:
        return Estimate(*[float("nan")] * 3)
    middle = float(stats.trim_mean(sample, TRIMMED))
    if len(sample) < 2:
        return Estimate(middle, float("nan"), float("nan"))
    found = stats.bootstrap(
        (sample,),
        lambda drawn, axis: stats.trim_mean(drawn, TRIMMED, axis=axis),
        confidence_level=LEVEL,
        n_resamples=resamples,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(SEED),
    )
    return Estimate(middle, float(found.confidence_interval.low), float(found.confidence_interval.high))


def paired(first: pd.Series, second: pd.Series) -> Comparison:
    """Compare two samples pair by pair: what both share, such as the luck of a seed or of a week, cancels.

    Args:
        first, second: values by seed, or by week; what only one of them has is left out.

    Returns:
        The comparison; its p is NaN for fewer than two pairs, or when no pair differs.

    Raises:
        ValueError: the index of one of them holds an entry twice.

    Source:
        ``scipy.stats.ttest_1samp`` of the differences (which is ``ttest_rel``).
    """
    for sample in (first, second):
        if not sample.index.is_unique:
            raise ValueError("pairing needs one value for each seed or week: average the others first")
    difference = (first - second).dropna().to_numpy(dtype=float)
    pairs = len(difference)
    middle = float(difference.mean()) if pairs else float("nan")
    tested = pairs > 1 and difference.any()
    p = float(stats.ttest_1samp(difference, popmean=0).pvalue) if tested else float("nan")
    return Comparison(pairs, middle, half_width(difference), p)


def paired_by_week(first: pd.DataFrame, second: pd.DataFrame) -> Comparison:
    """Compare two controllers week by week, each week's value the mean over the seeds.

    Seeds ask whether another training would tell the same; weeks ask whether another week would. The weeks of one
    controller are hardly a random sample of all weeks, so this goes beside the comparison by seed, not before it.

    Args:
        first, second: columns week and value, one line a seed and week (a deterministic controller has one seed).

    Returns:
        The comparison over the weeks that both have.
    """
    ours, theirs = (frame.groupby("week")["value"].mean() for frame in (first, second))
    return paired(ours, theirs)


def improvement(first: Sample, second: Sample) -> float:
    """Probability that a value of ``first`` lies below one of ``second`` (lower is better), ties counting half.

    Source:
        Agarwal et al. 2021; the Mann-Whitney statistic over the number of pairs.
    """
    ours, theirs = _clean(first), _clean(second)
    if not len(ours) or not len(theirs):
        return float("nan")
    return float(stats.mannwhitneyu(theirs, ours).statistic) / (len(ours) * len(theirs))


def holm(p: Sample) -> np.ndarray:
    """Holm's step-down correction: p values of a family such that one below 0.05 errs once in twenty families.

    Args:
        p: p values of the family; a NaN is no test, and stays NaN.

    Returns:
        The adjusted p values, in the same order.

    Source:
        Holm 1979.
    """
    values = np.asarray(p, dtype=float)
    adjusted = np.full(values.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
