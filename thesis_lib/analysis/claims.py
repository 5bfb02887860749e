"""The claims of an earlier guide, each a hypothesis with a test, a measured figure and a verdict.

No verdict on a figure is written down: each comes from the rows that runs left (``evidence``), by a criterion that is
the guide's own figure. Without rows a claim is not yet measured; where the seeds do not tell, it is undecided. Claims 3
and 4 are about publications, not figures: there the source decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from thesis_lib import paths
from thesis_lib.analysis import ablations, comparison, evidence, labels, robustness, statistics, tables
from thesis_lib.analysis.comparison import Pair
from thesis_lib.analysis.evidence import BAU, NO_CONTROL, Rows
from thesis_lib.analysis.statistics import Estimate
from thesis_lib.community.dataset import Dataset
from thesis_lib.community.model import Community
from thesis_lib.provenance import write_csv_atomic, write_text_atomic

CONFIRMED, REFUTED, UNDECIDED = "confirmed", "refuted", "undecided"
NOT_TESTABLE, NOT_MEASURED = "not_testable", "not_measured"
VERDICTS = (CONFIRMED, REFUTED, UNDECIDED, NOT_TESTABLE, NOT_MEASURED)

MARLISA: Pair = ("marlisa", "default")
NONE = Estimate(float("nan"), float("nan"), float("nan"))
MARLISA_SOURCE = "Vázquez-Canteli, Henze, Nagy, BuildSys 2020, doi 10.1145/3408308.3427604"
HOMES_SOURCE = "CityLearn Challenge 2022 (Sierra Crest, Fontana, California)"


class Claimed(NamedTuple):
    """Figures of the earlier guide, the bars of the tests."""

    saved: float = 0.30  # claim 1: least share of the demand saved against no control
    marlisa: tuple[float, float] = (0.15, 0.25)  # claim 2: share saved by MARLISA
    ahead: float = 0.10  # claim 2: by how much MADDPG is ahead of it, share of the demand
    c_rate: tuple[float, float] = (0.15, 0.25)  # claim 7: of the battery without and with control, 1/h
    self_consumption: float = 0.15  # claim 7: more than without control
    full: float = 0.99  # claim 7: what may be called full self-consumption
    year: tuple[tuple[str, float], ...] = (("import", 262_800.0), ("cost", 26_000.0), ("emissions", 131_000.0))  # 8
    latency_ms: tuple[float, float] = (50.0, 80.0)  # claim 13
    requests_per_s: tuple[float, float] = (12.0, 20.0)  # claim 13


BARS = Claimed()


@dataclass(frozen=True)
class Finding:
    """What was found about a claim: the verdict, its leading figure with interval, both in words, and where from."""

    verdict: str
    measured: str  # in the language in use
    source: str = ""
    estimate: Estimate = NONE
    unit: str = ""


@dataclass(frozen=True)
class Evidence:
    """All that the claims are judged by."""

    thesis: Rows
    ablations: Rows
    data: Dataset
    community: Community  # float32
    settings_alone: dict  # ``Config.train_for`` of the strictly local variant
    seeds: int  # that the headline should have


@dataclass(frozen=True)
class Claim:
    """A claim by its number; its words are ``claim.<number>.said``, ``.hypothesis`` and ``.test`` of labels."""

    number: int
    judge: Callable[[Evidence], Finding]
    shown: tuple[str, ...]  # names of the figures and tables that show what was found


# ------------------------------------------------------------------------------------ criteria


def at_least(estimate: Estimate | None, bar: float) -> str:
    """Confirmed if the whole interval is at or above the bar, refuted if it is below, undecided if it holds it."""
    if estimate is None:
        return NOT_MEASURED
    if np.isnan(estimate.low):
        return UNDECIDED  # one seed tells nothing about another
    return CONFIRMED if estimate.low >= bar else REFUTED if estimate.high < bar else UNDECIDED


def positive(estimate: Estimate | None) -> str:
    """Confirmed if the interval lies above zero, refuted if below, undecided if it holds zero."""
    verdict = at_least(estimate, 0.0)
    return UNDECIDED if estimate is not None and estimate.low == 0 == estimate.high else verdict


def within(estimate: Estimate | None, low: float, high: float) -> str:
    """Confirmed if the interval lies between low and high, refuted if it touches neither, undecided otherwise."""
    if estimate is None:
        return NOT_MEASURED
    if np.isnan(estimate.low):
        return UNDECIDED
    if low <= estimate.low and estimate.high <= high:
        return CONFIRMED
    return REFUTED if estimate.high < low or estimate.low > high else UNDECIDED


def every(*verdicts: str) -> str:
    """Of a claim in parts: refuted by one part, confirmed by all; not measured or undecided if a part is."""
    for verdict in (REFUTED, NOT_MEASURED, UNDECIDED, NOT_TESTABLE):
        if verdict in verdicts:
            return verdict
    return CONFIRMED


def _absent(what: str) -> Finding:
    return Finding(NOT_MEASURED, labels.t("found.absent", what=what))


# ------------------------------------------------------------------------------------ claim by claim


def _savings(e: Evidence) -> Finding:
    rows, pair = e.thesis, e.thesis.ours()
    if pair is None:
        return _absent(labels.controller(*comparison.OURS))
    texts = []
    for base in (NO_CONTROL, BAU):
        found = [(kpi, rows.saved(pair, base, kpi)) for kpi in ("import", *tables.TERMS[:4])]
        texts.append(_against(base, found))
    saved, habits = (rows.saved(which, NO_CONTROL, "import") for which in (pair, comparison.HABITS))
    if habits:
        texts.append(labels.t("found.habits_too", share=_share(habits), base=labels.controller(*NO_CONTROL)))
    if saved is None:
        texts.append(labels.t("found.absent", what=labels.controller(*NO_CONTROL)))
    texts += [_not_taken(e, pair), _learned(rows, pair)]
    told = " ".join(filter(None, texts))
    text = labels.t("found.savings", ours=labels.controller(*pair), seeds=_seeds(e, pair), texts=told)
    return Finding(at_least(saved, BARS.saved), text, rows.sources(pair, NO_CONTROL, BAU), saved or NONE, "1")


def _against(base: Pair, found: list[tuple[str, Estimate | None]]) -> str:
    """By how much KPIs change against a base, from shares saved; empty without any."""
    parts = [f"{labels.kpi(kpi).lower()} {_change(saved)}" for kpi, saved in found if saved]
    return labels.t("found.against", base=labels.controller(*base), parts="; ".join(parts)) if parts else ""


def _not_taken(e: Evidence, pair: Pair) -> str:
    """How much less charge the cars take than under business as usual; empty without flows."""
    own, usual = e.thesis.car_energy(pair), e.thesis.car_energy(BAU)
    if np.isnan(own) or np.isnan(usual):
        return ""
    energies = {"own": labels.number(own / 1000, 1), "usual": labels.number(usual / 1000, 1)}
    return labels.t("found.not_taken", tolerance=labels.number(e.settings_alone["guard_tolerance"], 2), **energies)


def _learned(rows: evidence.Rows, pair: Pair) -> str:
    """What is saved beyond the habits that every learner starts from; empty without their rows."""
    found = [(kpi, rows.saved(pair, comparison.HABITS, kpi)) for kpi in ("import", *tables.TERMS[:4])]
    return _against(comparison.HABITS, found)


def _marlisa(e: Evidence) -> Finding:
    rows, pair = e.thesis, e.thesis.ours()
    if pair is None or not rows.has(MARLISA):
        return _absent(labels.controller(*(MARLISA if pair else comparison.OURS)))
    base = NO_CONTROL if rows.has(NO_CONTROL) else BAU
    own, other = rows.saved(MARLISA, base, "import"), rows.difference(pair, MARLISA)
    scale = rows.values(base, "import").mean()
    ahead = comparison.against(rows.values(MARLISA, "import"), rows.values(pair, "import"), True) / scale
    points = statistics.mean(ahead) if len(ahead) else None
    text = labels.t(
        "found.marlisa",
        ours=labels.controller(*pair),
        base=labels.controller(*base),
        own=_share(own),
        points="–" if points is None else _points(points),
        composite=_signed(other),
        seeds=len(ahead),
    )
    verdict = every(within(own, *BARS.marlisa), at_least(points, BARS.ahead))
    return Finding(verdict, text, rows.sources(pair, MARLISA, base), points or NONE, "1")


def _citation(e: Evidence) -> Finding:
    homes = e.community.homes
    here = "found.marlisa_here" if e.thesis.has(MARLISA) else "found.marlisa_not_here"
    text = labels.t("found.citation", homes=homes, here=labels.t(here), source=MARLISA_SOURCE)
    return Finding(REFUTED, text, MARLISA_SOURCE)


def _homes(e: Evidence) -> Finding:
    load = float(tables.context(e.community)["load"].sum()) / e.community.homes / 1000
    text = labels.t("found.homes", homes=e.community.homes, load=labels.number(load, 1))
    return Finding(REFUTED, text, f"{HOMES_SOURCE}; {e.data.schema.name}", Estimate(load, *NONE[1:]), "MWh")


def _thermal(e: Evidence) -> Finding:
    demand, kinds = evidence.thermal_demand(e.data), evidence.action_kinds(e.community)
    known = {"electrical_storage", "electric_vehicle_storage", "deferrable_appliance"}
    named = [labels.t(f"device.{kind}") if kind in known else kind for kind in kinds]
    text = labels.t("found.thermal", demand=labels.number(demand, 0), kinds=", ".join(named))
    verdict = NOT_TESTABLE if demand == 0 and set(kinds) <= known else NOT_MEASURED
    return Finding(verdict, text, e.data.schema.name, Estimate(demand, *NONE[1:]), "kWh")


def _v2g(e: Evidence) -> Finding:
    with_, without = _variant("headline"), _variant("v2g_off")
    rows, gain = e.ablations, e.ablations.difference(without, with_)
    if gain is None:
        return _absent(labels.variant("v2g_off"))
    serve = rows.serves(with_) and rows.serves(without)
    cycles = [rows.values(pair, "battery_cycles", "year").mean() for pair in (with_, without)]
    (back, drawn_with), (_, drawn_without) = (ablations.exchanged(rows.flows(pair)) for pair in (with_, without))
    cars = float(e.community.storage_capacity[e.community.homes :].sum())
    text = labels.t(
        "found.v2g",
        gain=_signed(gain),
        cycles_with=labels.number(cycles[0], 0),
        cycles_without=labels.number(cycles[1], 0),
        back=labels.number(back, 0),
        car_cycles=labels.number(back / cars, 0),
        drawn_with=labels.number(drawn_with, 0),
        drawn_without=labels.number(drawn_without, 0),
        service=labels.t("found.both_serve" if serve else "found.not_both_serve"),
    )
    verdict = positive(gain) if serve else UNDECIDED
    return Finding(verdict, text, rows.sources(with_, without), gain, "1")


def _battery(e: Evidence) -> Finding:
    rows, pair = e.thesis, e.thesis.ours()
    if pair is None or not rows.has(BAU):
        return _absent(labels.controller(*(BAU if pair else comparison.OURS)))
    level = statistics.mean(rows.values(pair, "self_consumption"))
    more = statistics.mean(rows.values(pair, "self_consumption") - rows.values(BAU, "self_consumption").mean())
    rates: dict[Pair, np.ndarray] = {}
    for which in (pair, BAU):
        flows = rows.flows(which)
        if flows is not None:
            rates[which] = evidence.c_rates(flows)
    told = [
        labels.t(
            "found.c_rate",
            controller=labels.controller(*which),
            median=labels.percent(float(np.median(found)), 1),
            low=labels.percent(float(np.quantile(found, 0.25)), 1),
            high=labels.percent(float(np.quantile(found, 0.75)), 1),
            mean=labels.percent(float(found.mean()), 1),
        )
        for which, found in rates.items()
    ]
    text = labels.t("found.battery", level=_share(level), more=_points(more), rates=" ".join(told))
    used = NOT_MEASURED
    if len(rates) == 2:  # means, as the claim has them; hours of one seed are no sample of seeds
        used = CONFIRMED if rates[pair].mean() >= BARS.c_rate[1] > BARS.c_rate[0] >= rates[BAU].mean() else REFUTED
    verdict = every(used, at_least(level, BARS.full), at_least(more, BARS.self_consumption))
    return Finding(verdict, text, rows.sources(pair, BAU), more, "1")


def _year(e: Evidence) -> Finding:
    rows, pair = e.thesis, e.thesis.ours()
    if pair is None:
        return _absent(labels.controller(*comparison.OURS))
    table = evidence.impact(rows, pair)
    base = NO_CONTROL[0] if (table["base"] == NO_CONTROL[0]).any() else BAU[0]
    table = table[table["base"] == base].set_index("kpi")
    if table.empty:
        return _absent(labels.controller(*BAU))
    verdicts, parts, first = [], [], NONE
    for kpi, bar in BARS.year:
        line = table.loc[kpi]
        saved = Estimate(line["saved"], line["saved"] - line["saved_half"], line["saved"] + line["saved_half"])
        first = saved if kpi == "import" else first
        # more than all there is cannot be saved, whatever the seeds say
        verdicts.append(REFUTED if line["ceiling"] < bar else at_least(saved, bar))
        parts.append(
            labels.t(
                "found.of_all",
                saved=labels.interval(line["saved"], line["saved_half"], 0),
                all=labels.number(line["ceiling"], 0),
                unit=labels.unit(line["unit"]),
            )
        )
    text = labels.t("found.year", base=labels.controller(base), parts="; ".join(parts), seeds=_seeds(e, pair))
    text = f"{text} {_not_taken(e, pair)}".strip()
    return Finding(every(*verdicts), text, rows.sources(pair, (base, "default")), first, "kWh")


def _team_reward(e: Evidence) -> Finding:
    idle, full = evidence.reward_responds(e.community)
    checked = labels.t("found.reward", idle=labels.number(idle, 2), full=labels.number(full, 2))
    if idle == full:
        return Finding(REFUTED, checked, "evidence.reward_responds")
    rows, own = e.ablations, e.ablations.difference(_variant("individual_reward"), _variant("headline"))
    if own is None:
        absent = labels.t("found.absent", what=labels.variant("individual_reward"))
        return Finding(NOT_MEASURED, f"{checked} {absent}", "evidence.reward_responds")
    text = labels.t("found.individual", difference=_signed(own))
    shown = ["headline", "individual_reward"]
    if plain := rows.difference(_variant("maddpg_team"), _variant("maddpg")):
        text += " " + labels.t("found.team_from_replay", difference=_signed(plain))
        shown += ["maddpg_team", "maddpg"]
    source = rows.sources(*map(_variant, shown))
    return Finding(positive(own), f"{checked} {text}", source, own, "1")


def _training(e: Evidence) -> Finding:
    pair = e.thesis.ours()
    log = e.thesis.training_logs(pair) if pair else pd.DataFrame()
    if pair is None or log.empty:
        return _absent(labels.controller(*comparison.OURS))
    ends = log.dropna(subset=["composite"]).sort_values("update").groupby("seed")["composite"].agg(["first", "last"])
    fall = statistics.mean(ends["first"] - ends["last"])
    updates = log.groupby("seed")["update"].max()
    text = labels.t(
        "found.training",
        updates=labels.number(updates.mean(), 0),
        seeds=_seeds(e, pair),
        first=labels.number(ends["first"].mean(), 3),
        last=labels.number(ends["last"].mean(), 3),
        fall=labels.interval(fall.value, fall.high - fall.value, 3),
    )
    return Finding(positive(fall), text, e.thesis.sources(pair), fall, "1")


def _decentralised(e: Evidence) -> Finding:
    moved = evidence.decides_alone(e.community, e.settings_alone)
    local, heard = (comparison.OURS[0], "none"), comparison.OURS
    price = e.thesis.difference(local, heard) if e.thesis.has(local) and e.thesis.has(heard) else None
    text = labels.t("found.alone", moved=labels.scientific(moved))
    text += " " + (labels.t("found.price", price=_signed(price)) if price else labels.t("found.no_price"))
    sources = "; ".join(filter(None, ("evidence.decides_alone", e.thesis.sources(local, heard) if price else "")))
    return Finding(CONFIRMED if moved == 0 else REFUTED, text, sources, price or NONE, "1")


def _attention(e: Evidence) -> Finding:
    names, rows, local = ("attention", "mean_field"), e.ablations, _variant("none")
    found = {name: rows.difference(_variant(name), local) for name in names}
    there = {name: value for name, value in found.items() if value is not None}
    if not there:
        return _absent(labels.listing([labels.variant(name) for name in names]))
    pairs = [statistics.paired(rows.values(_variant(name)), rows.values(local)).p for name in there]
    corrected = dict(zip(there, statistics.holm(pairs), strict=True))
    parts = [f"{labels.variant(name)} {_signed(value)}" for name, value in there.items()]
    verdicts = [
        UNDECIDED
        if not corrected[name] < comparison.SIGNIFICANT
        else CONFIRMED
        if value.value < 0 and rows.serves(_variant(name))
        else REFUTED
        for name, value in there.items()
    ] + [NOT_MEASURED] * (len(names) - len(there))
    best = min(there.values(), key=lambda value: value.value)
    text = labels.t("found.attention", parts="; ".join(parts))
    return Finding(every(*verdicts), text, rows.sources(local, *map(_variant, there)), best, "1")


def _latency(e: Evidence) -> Finding:
    record = evidence.service_record(e.thesis.profile)
    if record is None:
        return _absent(labels.t("found.service_benchmark"))
    figures, file = record
    latency, rate = figures["request_p50_ms_at_500"], figures["saturation_rps"]
    text = labels.t("found.latency", latency=labels.number(latency, 2), rate=labels.number(rate, 0))
    inside = BARS.latency_ms[0] <= latency <= BARS.latency_ms[1]
    inside = inside and BARS.requests_per_s[0] <= rate <= BARS.requests_per_s[1]
    source = file.relative_to(paths.ROOT).as_posix()
    return Finding(CONFIRMED if inside else REFUTED, text, source, Estimate(latency, *NONE[1:]), "ms")


def _weights(e: Evidence) -> Finding:
    family, rows = ablations.FAMILIES["weights"], e.ablations
    known = [name for name in family.variants if rows.has(_variant(name))]
    if not known or not rows.has(_variant(family.reference)):
        return _absent(labels.t("family.weights"))
    table = ablations.compare(rows.kpis, family, **rows.where).set_index("variant")
    terms = ablations.ratios(rows.kpis, [family.reference, *known], **rows.where)
    means = terms.groupby("variant")[tables.TERMS].mean()
    serving = table.loc[[name for name in known if table.loc[name, "gate"]]]
    better = [*serving[(serving["p_holm"] < comparison.SIGNIFICANT) & (serving["difference"] < 0)].index]
    none_better = len(serving) > 0 and (serving["difference"] - serving["difference_half"] >= 0).all()
    parts = [
        f"{labels.kpi(term).lower()} {labels.number(means[term].min(), 3)}–{labels.number(means[term].max(), 3)}"
        for term in tables.TERMS
    ]
    told = labels.t("found.better_weights", names=labels.listing([labels.variant(n) for n in better]))
    text = labels.t(
        "found.weights", parts="; ".join(parts), better=told if better else labels.t("found.no_better_weights")
    )
    lowest = table.loc[known].sort_values("difference").iloc[0]
    best = Estimate(
        lowest["difference"],
        lowest["difference"] - lowest["difference_half"],
        lowest["difference"] + lowest["difference_half"],
    )
    whole = [] if len(known) == len(family.variants) else [NOT_MEASURED]
    verdict = every(REFUTED if better else CONFIRMED if none_better else UNDECIDED, *whole)
    return Finding(verdict, text, rows.sources(_variant(family.reference), *map(_variant, known)), best, "1")


def _robust(e: Evidence) -> Finding:
    rows, parts, verdicts, absent = e.ablations, [], [], []
    size = ablations.sizes(rows.profile, rows.selected(), **rows.where)
    largest = size[size["homes"] >= 1000] if len(size) else size
    own = size[size["homes"] == e.community.homes] if len(size) else size
    each, now = (float(table["microseconds"].iloc[0]) if len(table) else np.nan for table in (largest, own))
    if np.isfinite([each, now]).all():
        verdicts.append(CONFIRMED if each <= now else REFUTED)
        numbers = {"now": labels.number(now, 2), "each": labels.number(each, 2)}
        parts.append(labels.t("found.scale", homes=labels.number(largest["homes"].iloc[0], 0), **numbers))
    else:
        absent.append("scale_1000")
    names = [name for family in ("unseen", "meters") for name in ablations.FAMILIES[family].variants]
    troubled = replace(rows, kpis=robustness.read(rows.profile))  # no runs of their own
    for there, name in [(rows, name) for name in names] + [(troubled, name) for name in robustness.FAMILY.variants]:
        if not there.has(_variant(name)):
            absent.append(name)
            continue
        gain, serves = statistics.mean(1 - there.values(_variant(name))), there.serves(_variant(name))
        verdicts.append(positive(gain) if serves else REFUTED)
        value = labels.interval(1 - gain.value, gain.high - gain.value, 3)
        met = labels.percent(there.values(_variant(name), "ev_departures_met").min(), 1) + ("" if serves else " †")
        parts.append(labels.t("found.composite", variant=labels.variant(name), value=value, met=met))
    text = labels.t("found.robust", parts="; ".join(parts)) if parts else ""
    if absent:
        verdicts.append(NOT_MEASURED)
        text = f"{text} {labels.t('found.absent', what='; '.join(map(labels.variant, absent)))}".strip()
    source = rows.sources(*map(_variant, ("scale_1000", *names)))
    if len(troubled.kpis):
        source += f"; {(paths.results(rows.profile) / robustness.FILE).relative_to(paths.ROOT).as_posix()}"
    return Finding(every(*verdicts), text, source)


CLAIMS = tuple(
    Claim(number, judge, shown)
    for number, (judge, shown) in enumerate(
        (
            (_savings, ("kpi_bars", "impact")),
            (_marlisa, ("paired_differences", "comparison")),
            (_citation, ()),
            (_homes, ("data_homes",)),
            (_thermal, ("data_resources",)),
            (_v2g, ("ablation_service", "ablation_service_kpis")),
            (_battery, ("indicators", "policy_day_announce")),
            (_year, ("impact",)),
            (_team_reward, ("ablation_learning", "ablation_replay", "comparison_decentralised")),
            (_training, ("learning_curves",)),
            (_decentralised, ("kpi_bars",)),
            (_attention, ("ablation_coordination",)),
            (_latency, ("latency_rates",)),
            (_weights, ("ablation_weights", "ablation_front")),
            (_robust, ("ablation_scale", "ablation_unseen", "ablation_meters", "ablation_robustness")),
        ),
        start=1,
    )
)


def _variant(name: str) -> Pair:
    return ablations.CONTROLLER, name


def _share(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    half = estimate.high - estimate.value
    text = labels.number(100 * estimate.value, 1)
    return labels.t("found.percent", value=text if np.isnan(half) else f"{text} ± {labels.number(100 * half, 1)}")


def _change(saved: Estimate) -> str:
    half = saved.high - saved.value
    text = labels.difference(-100 * saved.value, 100 * half, 1)
    return labels.t("found.percent", value=text)


def _points(estimate: Estimate) -> str:
    half = 100 * (estimate.high - estimate.value)
    return labels.difference(100 * estimate.value, half, 1)


def _signed(estimate: Estimate | None) -> str:
    return "–" if estimate is None else labels.difference(estimate.value, estimate.high - estimate.value)


def _seeds(e: Evidence, pair: Pair) -> str:
    return labels.t("found.seeds", there=len(e.thesis.values(pair)), wanted=e.seeds)


# ------------------------------------------------------------------------------------ the table


def judge(known: Evidence) -> dict[int, Finding]:
    """Every claim's finding by its number, in the language in use."""
    return {claim.number: claim.judge(known) for claim in CLAIMS}


def plain(findings: dict[int, Finding]) -> pd.DataFrame:
    """The findings as data: claim, hypothesis and test (English), verdict, value, low, high, unit, shown, source."""
    with labels.using("en"):
        words = {n: [labels.t(f"claim.{n}.{part}") for part in ("hypothesis", "test")] for n in findings}
    shown = {claim.number: "; ".join(claim.shown) for claim in CLAIMS}
    lines = [(n, *words[n], f.verdict, *f.estimate, f.unit, shown[n], f.source) for n, f in findings.items()]
    columns = ["claim", "hypothesis", "test", "verdict", "value", "low", "high", "unit", "shown", "source"]
    return pd.DataFrame(lines, columns=columns)


def printed(findings: dict[int, Finding]) -> pd.DataFrame:
    """The findings as the reader sees them, in the language they were found in: what was said, tested, measured."""
    lines, shown = [], {claim.number: claim.shown for claim in CLAIMS}
    for number, found in findings.items():
        words = [labels.t(f"claim.{number}.{part}") for part in ("said", "hypothesis", "test")]
        see = labels.t("claims.see", names=", ".join(shown[number])) if shown[number] else ""
        lines.append(
            (
                number,
                words[0],
                f"{words[1]} {words[2]}",
                f"{found.measured} {see}".strip(),
                labels.t(f"verdict.{found.verdict}"),
                found.source,
            )
        )
    columns = [labels.t(f"claims.{name}") for name in ("number", "said", "tested", "measured", "verdict", "source")]
    return pd.DataFrame(lines, columns=columns)


def save(known: Evidence, profile: str) -> dict[int, Finding]:
    """Judge every claim and write ``results/<profile>/tables/claims.csv`` and ``<language>/claims.tex``.

    Returns:
        The findings in the language in use.

    Raises:
        OSError: the folder cannot be written.
    """
    for language in labels.LANGUAGES:
        with labels.using(language):
            text = _longtable(printed(judge(known)).drop(columns=labels.t("claims.source")))
            write_text_atomic(paths.tables(profile) / language / "claims.tex", text)
    findings = judge(known)
    write_csv_atomic(paths.tables(profile) / "claims.csv", plain(findings))
    return findings


def _longtable(frame: pd.DataFrame) -> str:
    """The claims for LaTeX, over as many pages as they need (packages longtable and array)."""
    shown = frame.astype(str).map(labels.latex)
    shown.columns = pd.Index([labels.latex(name) for name in shown.columns])
    widths = (0.18, 0.23, 0.28, 0.13)  # of the text: said, tested, measured, verdict
    tex = shown.style.hide(axis="index").to_latex(
        environment="longtable",
        hrules=True,
        caption=labels.latex(labels.t("claims.caption")),
        label="tab:claims",
        column_format="r" + "".join(rf">{{\raggedright\arraybackslash}}p{{{width}\textwidth}}" for width in widths),
    )
    tex = tex.replace("Continued on next page", labels.latex(labels.t("claims.continued")))
    return "{\\footnotesize\n" + tex + "}\n"
