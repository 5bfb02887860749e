"""One controller against the others: paired differences by seed and by test week, corrected for many tests.

The difference is always ours minus theirs, so below zero we are better. Learners are paired seed by seed: what a seed
decides for both, such as the training windows, can cancel. A controller without seeds has one value, and ours is
compared with it seed by seed. Whatever rows are there are used; ``missing`` says which controllers have none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import pandas as pd

from thesis_lib import controllers
from thesis_lib.analysis import evaluation, labels, statistics, tables
from thesis_lib.analysis.learner import CONTROLLER

Pair = tuple[str, str]  # controller, variant
OURS: Pair = (CONTROLLER, "announce")  # the headline
HABITS: Pair = ("habits", "default")  # what every learner starts from
LEARNERS = (*controllers.LEARNERS, CONTROLLER)
SIGNIFICANT = 0.05  # of Holm's p
FEW = 6  # controllers that a figure of lines can hold


def ours(rows: pd.DataFrame) -> Pair | None:
    """Our headline variant, or the first other variant of ours that has rows; None if none has."""
    own = [pair for pair in tables.keys(rows) if pair[0] == OURS[0]]
    return OURS if OURS in own else own[0] if own else None


def missing(rows: pd.DataFrame) -> list[str]:
    """Controllers of the thesis without a row."""
    return [name for name in tables.ORDER if name not in set(rows["controller"])]


def comparator(kpis: pd.DataFrame, wanted: str = "marlisa", **where: str) -> Pair | None:
    """Whom we are compared with in detail: ``wanted`` if it has rows, else the best there is.

    Args:
        kpis: the long table.
        wanted: controller.
        **where: split, engine and edition.

    Returns:
        The best is the lowest mean composite among others' controllers that serve and do not know the future; None
        if there is none.
    """
    rows = tables.select(kpis, **where)
    if wanted in set(rows["controller"]):
        return next(pair for pair in tables.keys(rows) if pair[0] == wanted)
    passes = tables.gate(rows)["passes"]
    means = rows[rows["kpi"] == tables.COMPOSITE].groupby(tables.KEY)["value"].mean()
    able = [p for p in means.index if p[0] != OURS[0] and p[0] not in tables.FORESIGHT and passes.loc[p]]
    return min(able, key=lambda pair: means.loc[pair]) if able else None


def few(rows: pd.DataFrame) -> list[Pair]:
    """`FEW` controllers for a figure of lines: who matters most first, then the others; never the random one.

    Args:
        rows: of one split, engine and edition.

    Returns:
        Of business as usual, ours, the tuned rule, MARLISA, MADDPG and the causal MPC those that are there, then others
        in the order of the thesis; in that order.
    """
    pairs = [pair for pair in tables.keys(rows) if pair[0] != "random"]
    wanted = (tables.BAU, OURS[0], "tuned_rule", "marlisa", "maddpg", "mpc_forecast")
    first = [next((pair for pair in pairs if pair[0] == name), None) for name in wanted]
    chosen = list(dict.fromkeys([*(pair for pair in first if pair), *pairs]))[:FEW]
    return [pair for pair in pairs if pair in chosen]


def named(values: pd.Series, failing: Collection[Pair] = ()) -> list[Pair]:
    """Whom a caption names where its figure draws many: ours, the best rival, the best that serves, the worst.

    Args:
        values: indexed by controller and variant; lower is better.
        failing: those below the service gate.

    Returns:
        Those of them that are there, in the order of the thesis. The best rival serves and does not know the future,
        as in `comparator`.
    """
    mine = [pair for pair in values.index if pair[0] == OURS[0]]
    serving = [pair for pair in values.index if pair not in failing]
    able = [pair for pair in serving if pair not in mine and pair[0] not in tables.FORESIGHT]
    chosen = {values[some].idxmin() for some in (serving, able) if some} | {values.idxmax()}
    chosen |= {OURS if OURS in mine else mine[0]} if mine else set()
    return [pair for pair in tables.keys(values.index.to_frame(index=False)) if pair in chosen]


def rows_of(frame: pd.DataFrame, pair: Pair) -> pd.DataFrame:
    """The rows of one controller and variant."""
    return frame[(frame["controller"] == pair[0]) & (frame["variant"] == pair[1])]


def by_seed(rows: pd.DataFrame, pair: Pair, kpi: str = tables.COMPOSITE) -> pd.Series:
    """A KPI's values by seed; ``rows`` of one split, engine and edition."""
    own = rows_of(rows, pair)
    return own[own["kpi"] == kpi].set_index("seed")["value"].dropna().sort_index()


def weekly(profile: str, pairs: Iterable[Pair], *, engine: str, edition: str) -> pd.DataFrame:
    """The composite of each test week: columns controller, variant, seed, week, value; of the runs that are there."""
    found = []
    for pair in pairs:
        for run in evaluation.runs(profile, edition, *pair):
            weeks = evaluation.read_weekly(profile, edition, *pair, run.seed, engine)
            found.append(weeks.assign(controller=pair[0], variant=pair[1], seed=run.seed))
    columns = [*tables.KEY, "seed", "week", "value"]
    found = [frame for frame in found if len(frame)]
    return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)


def against(own: pd.Series, other: pd.Series, other_learns: bool) -> pd.Series:
    """Ours minus theirs by seed; one value of a controller without seeds stands for every seed of ours."""
    if not other_learns and len(other) == 1:
        other = pd.Series(other.iloc[0], index=own.index)
    return (own - other).dropna()


def compare(
    kpis: pd.DataFrame,
    own: Pair,
    others: Sequence[Pair],
    weeks: pd.DataFrame | None = None,
    names: Sequence[str] = (tables.COMPOSITE,),
    **where: str,
) -> pd.DataFrame:
    """Our KPIs minus those of each of the others, all over business as usual: one family of tests.

    Args:
        kpis: the long table.
        own: ours.
        others: whom we are compared with; a pair without rows is left out.
        weeks: as of `weekly`, for the composite's comparison by test week.
        names: KPIs.
        **where: split, engine and edition.

    Returns:
        Columns controller, variant, kpi, seeds (pairs), gate (of the other), value and _half (the other's mean and t
        interval), iqm with _low and _high (the other's, bootstrap), difference and _half (t), p (paired t test),
        p_holm, improvement (probability that a seed of ours is lower), difference_weeks and _half, p_weeks (paired t
        test over weeks, Holm). NaN where there is nothing to test. Those that fail the service gate come last.

    Raises:
        ValueError: ours has no rows.

    Source:
        `statistics`.
    """
    rows = tables.select(kpis, **where)
    passes = tables.gate(rows)["passes"]
    over = tables.relative(rows)
    lines = []
    for pair in others:
        for name in names:
            mine, theirs = by_seed(over, own, name), by_seed(over, pair, name)
            if mine.empty:
                raise ValueError(f"no rows of {own[0]} ({own[1]}): train it first")
            if theirs.empty:
                continue
            differences = against(mine, theirs, pair[0] in LEARNERS)
            told = statistics.paired(differences, differences * 0)
            line = {
                **dict(zip(tables.KEY, pair, strict=True)),
                "kpi": name,
                "seeds": told.pairs,
                "gate": bool(passes.loc[pair]),
                **_level(theirs),
                "difference": told.difference,
                "difference_half": told.half,
                "p": told.p,
                "improvement": statistics.improvement(mine, theirs),
                "difference_weeks": np.nan,
                "difference_weeks_half": np.nan,
                "p_weeks": np.nan,
            }
            if weeks is not None and name == tables.COMPOSITE:
                over_weeks = statistics.paired_by_week(rows_of(weeks, own), rows_of(weeks, pair))
                line |= {
                    "difference_weeks": over_weeks.difference,
                    "difference_weeks_half": over_weeks.half,
                    "p_weeks": over_weeks.p,
                }
            lines.append(line)
    table = pd.DataFrame(lines, columns=list(lines[0]) if lines else [*tables.KEY, "kpi", "gate", "p", "p_weeks"])
    table.insert(table.columns.get_loc("p") + 1, "p_holm", statistics.holm(table["p"]))
    table["p_weeks"] = statistics.holm(table["p_weeks"])
    return table.sort_values("gate", ascending=False, kind="stable", ignore_index=True)


def level(kpis: pd.DataFrame, own: Pair, **where: str) -> pd.DataFrame:
    """Our own line for the head of a printed table: the composite's value and IQM, and nothing it differs from."""
    rows = tables.select(kpis, **where)
    passes = bool(tables.gate(rows)["passes"].loc[own])
    line = dict(zip(tables.KEY, own, strict=True)) | {"pairs": np.nan, "gate": passes}
    return pd.DataFrame([line | _level(by_seed(rows, own))])


def _level(values: pd.Series) -> dict[str, float]:
    """Mean with the half width of its t interval, IQM with its bootstrap interval."""
    iqm = statistics.iqm(values)
    half = statistics.half_width(values)
    return {"value": values.mean(), "value_half": half, "iqm": iqm.value, "iqm_low": iqm.low, "iqm_high": iqm.high}


def differences(kpis: pd.DataFrame, own: Pair, others: Sequence[Pair], weeks: pd.DataFrame, **where: str) -> tuple:
    """What `compare` took the means of: the composite's differences by seed, and by test week.

    Returns:
        Two data frames, columns controller, variant, seed (or week), difference.
    """
    over = tables.relative(tables.select(kpis, **where))
    by_seeds, by_weeks = [], []
    for pair in others:
        named = dict(zip(tables.KEY, pair, strict=True))
        theirs = by_seed(over, pair)
        seeds = against(by_seed(over, own), theirs, pair[0] in LEARNERS)
        by_seeds.append(seeds.rename("difference").rename_axis("seed").reset_index().assign(**named))
        mine, other = (rows_of(weeks, which).groupby("week")["value"].mean() for which in (own, pair))
        over_weeks = (mine - other).dropna().rename("difference").rename_axis("week")
        by_weeks.append(over_weeks.reset_index().assign(**named))
    empty = pd.DataFrame(columns=[*tables.KEY, "difference"])
    return (
        pd.concat(by_seeds, ignore_index=True) if by_seeds else empty.assign(seed=[]),
        pd.concat(by_weeks, ignore_index=True) if by_weeks else empty.assign(week=[]),
    )


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of `compare` that a page holds; ``kpi`` only where there are several, ``seeds`` as ``pairs``.

    Pairs they are: a controller without seeds has as many as ours.
    """
    dropped = ["p"] + (["kpi"] if table["kpi"].nunique() < 2 else [])
    return table.drop(columns=dropped, errors="ignore").rename(columns={"seeds": "pairs"})


def sentences(table: pd.DataFrame, own: Pair) -> list[str]:
    """What `compare` says, one English sentence a line."""
    texts = []
    with labels.using("en"):
        me = labels.controller(*own)
        for line in table.to_dict("records"):
            name = f"*{labels.controller(line['controller'], line['variant'])}*"
            what = labels.kpi(line["kpi"]).lower()
            if not line["seeds"]:
                texts.append(f"{name}: no seed in common with {me}, so nothing to compare.")
                continue
            change = labels.difference(line["difference"], line["difference_half"])
            text = f"{me} minus {name}, {what}: {change} of BAU's, {verdict(line)}"
            texts.append(text + ("." if line["gate"] else "; but the other **fails the service gate**."))
    return texts


def verdict(line: dict) -> str:
    """Better, worse or not to be told, in English, by ``difference`` and Holm's p of a line of `compare`."""
    if np.isnan(line["p_holm"]):  # there is a difference of one seed only, or no seed's differs from zero
        return "which a single seed cannot test" if line["difference"] else "none at all"
    told = f"Holm's p {labels.p_value(line['p_holm'])}"
    if line["p_holm"] >= SIGNIFICANT:
        return f"which these seeds do not tell from none ({told})"
    return f"{'better' if line['difference'] < 0 else 'worse'} ({told})"
