"""Every figure draws from a tiny frame in both languages, says its units, and saves the same bytes twice."""

from __future__ import annotations

import re
import string
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import find

from thesis_lib import paths
from thesis_lib.analysis import exploration, figures, hourly, labels, page, tables
from thesis_lib.community import kpis as measured
from thesis_lib.community import sessions

pytestmark = pytest.mark.usefixtures("english_page")

CONTROLLERS = [
    ("charge_on_arrival", "default", 1.3),
    ("business_as_usual", "default", 1.0),
    ("rule", "default", 0.87),
    ("random", "default", 0.6),
    ("cooperative_maddpg", "broadcast", 0.75),
    ("cooperative_maddpg", "none", 0.8),
]
HOURS = 24 * 14


@pytest.fixture(scope="module")
def kpis() -> pd.DataFrame:
    """A long table as runs leave it: two engines, all splits, three seeds of the learner."""
    base = {"cost": 2500.0, "emissions": 2300.0, "ramping": 9000.0, "daily_peak": 47.0, "import": 14000.0}
    lines = []
    for controller, variant, factor in CONTROLLERS:
        for seed in range(3 if controller == "cooperative_maddpg" else 1):
            share = factor + 0.01 * seed
            met = 0.5 if controller == "random" else 0.997
            values = {name: value * share for name, value in base.items()}
            values |= {"composite_vs_bau": share, "ev_departures_met": met, "appliance_cycles_served": 1.0}
            for split in ("train", "validation", "test", "year"):
                for engine, error in (("citylearn", 0.0), ("model", 1e-7)):
                    for name, value in values.items():
                        where = ("official", controller, variant, seed, split, name)
                        lines.append((*where, value * (1 + error), measured.UNITS[name], engine))
    columns = ["edition", "controller", "variant", "seed", "split", "kpi", "value", "unit", "engine"]
    return pd.DataFrame(lines, columns=columns)


@pytest.fixture(scope="module")
def frames(kpis: pd.DataFrame) -> dict[str, tuple]:
    """The arguments of each figure."""
    random = np.random.default_rng(0)
    rows = np.arange(HOURS)
    sun = np.clip(np.sin((rows % 24 - 6) / 12 * np.pi), 0, None)
    context = pd.DataFrame(
        {"load": 20.0, "pv": 40 * sun, "price": 0.2 + 0.05 * (rows % 5), "carbon": 0.1 + 0.02 * (rows % 7)},
        index=pd.RangeIndex(HOURS, name="row"),
    )
    hourly = pd.concat(
        pd.DataFrame(
            {
                "controller": controller,
                "variant": variant,
                "seed": seed,
                "row": rows,
                "net": factor * (20 - 40 * sun) + random.normal(0, 1, HOURS),
            }
        )
        for controller, variant, factor in CONTROLLERS
        for seed in range(2 if controller == "cooperative_maddpg" else 1)
    )
    flows = context.assign(
        battery=np.where(sun > 0, 2.0, -1.0), chargers=3.0, appliances=0.0, battery_soc=0.5, car_soc=0.8
    )
    flows.loc[flows.index % 24 == 5, "appliances"] = 31.4
    flows["battery_charged"], flows["cars_charged"] = flows["battery"].clip(0), flows["chargers"]
    flows["net"] = flows["load"] - flows["pv"] + flows["battery"] + flows["chargers"] + flows["appliances"]
    departures = pd.concat(
        pd.DataFrame(
            {
                "controller": controller,
                "variant": variant,
                "seed": 0,
                "soc": [0.9, 0.7, 0.85],
                "required": [0.9, 0.8, 0.8],
                "feasible": [True, True, False],
                "met": [True, False, True],
            }
        )
        for controller, variant, _ in CONTROLLERS[1:]
    )
    homes = pd.DataFrame(
        [(c, v, 0, f"Building_{h}", factor * (100 + h)) for c, v, factor in CONTROLLERS for h in range(1, 18)],
        columns=["controller", "variant", "seed", "home", "value"],
    )
    log = pd.DataFrame(
        {
            "seed": [0, 0, 0, 1, 1, 1],
            "seconds": [0.0, 30.0, 60.0] * 2,
            "update": [0, 10, 20] * 2,
            "actor_loss": [2.0, 1.5, 1.2, 2.1, 1.6, 1.3],
            "composite": [1.1, np.nan, 0.8213, 1.2, np.nan, 0.9],
        }
    ).assign(controller="cooperative_maddpg", variant="default")
    blocks = [(0, 24 * 7), (24 * 7, 24 * 14)]
    return {
        "kpi_bars": (kpis,),
        "composite_by_split": (kpis,),
        "engine_distance": (kpis,),
        "learning_curves": (log, {"rule": 0.87}),
        "mean_day": (hourly, context),
        "load_duration": (hourly,),
        "hard_week": (hourly, context, blocks),
        "policy_day": (flows, 1, ("rule", "default")),
        "price_response": (hourly, context),
        "ramping": (hourly,),
        "departure_margins": (departures,),
        "home_heatmap": (homes,),
    }


def bare(fig: plt.Figure) -> list[str]:
    """The axes that print numbers without a unit; panels of a row may share the label of its y axes.

    Axes whose ticks are words (names of controllers, KPIs, splits, months) have no unit to state.
    """
    fig.canvas.draw()
    found = []
    for ax in fig.axes:
        row = [other for other in fig.axes if abs(other.get_position().y0 - ax.get_position().y0) < 1e-3]
        told_x = [ax.get_xlabel()]
        told_y = [ax.get_ylabel() or " ".join(other.get_ylabel() for other in row), fig.get_supylabel()]
        for axis, told in ((ax.xaxis, told_x), (ax.yaxis, told_y)):
            ticks = [tick.get_text() for tick in axis.get_ticklabels() if axis.get_visible() and tick.get_visible()]
            numbers = any(re.fullmatch(r"[−+]?[\d.,\u202f]+|\$.*\$", tick) for tick in ticks)
            if numbers and not re.search(r"\(.+\)", " ".join(told).replace("\n", " ")):
                found.append(", ".join(ticks))
    return found


@pytest.mark.parametrize("language", labels.LANGUAGES)
@pytest.mark.parametrize("name", sorted(set(figures.FIGURES) - {"paired_differences"}))
def test_figure_draws_labels_and_saves_the_same_twice(name: str, language: str, frames) -> None:
    labels.use(language)
    fig = figures.FIGURES[name].draw(*frames[name])
    assert fig.get_size_inches()[0] == pytest.approx(page.TEXT_WIDTH)
    assert not bare(fig)
    tight, (width, height) = fig.get_tightbbox(), fig.get_size_inches()
    assert tight.x0 > -0.02 and tight.x1 < width + 0.02, "text runs out of the figure"
    assert tight.y0 > -0.02 and tight.y1 < height + 0.02, "text runs out of the figure"
    text = figures.caption(name, *frames[name])
    first = page.save(fig, name, "test", text)
    bytes_once = first.read_bytes()
    assert first.with_suffix(".png").stat().st_size > 1000
    second = page.save(figures.FIGURES[name].draw(*frames[name]), name, "test", text)
    assert second.read_bytes() == bytes_once
    assert sorted(p.name for p in first.parent.iterdir()) == [f"{name}.{kind}" for kind in ("pdf", "png", "tex", "txt")]
    assert first.parent == paths.figures("test") / language


@pytest.mark.parametrize("language", labels.LANGUAGES)
def test_captions_hold_the_numbers_of_the_data(language: str, frames) -> None:
    labels.use(language)
    comma = "," if language == "es" else "."
    texts = {name: figures.caption(name, *arguments) for name, arguments in frames.items()}
    assert f"0{comma}861" in texts["learning_curves"] and f"0{comma}870" in texts["learning_curves"]
    assert f"0{comma}821" not in texts["learning_curves"]  # the mean over seeds, never the best of them
    assert f"0{comma}760 ± 0{comma}025" in texts["kpi_bars"]  # mean of three seeds and its t interval
    assert labels.controller("random") in texts["kpi_bars"]  # fails the gate
    assert f"1{comma}0 × 10⁻⁷" in texts["engine_distance"]
    assert labels.controller("rule") in texts["policy_day"] and f"31{comma}4" in texts["policy_day"]
    assert "1 de 2" in texts["departure_margins"] or "1 of 2" in texts["departure_margins"]
    assert ("+30" if language == "es" else "+30%") in texts["home_heatmap"]
    peak = frames["load_duration"][0].query("controller == 'business_as_usual'")["net"].max()
    assert labels.number(peak, 1) in texts["load_duration"]
    for text in texts.values():
        assert "{" not in text and "nan" not in text and text.endswith(".")


def test_no_axis_of_the_data_figures_is_bare() -> None:
    data = find("offline")
    series, stays = exploration.read(data), sessions.read_sessions(data.schema)
    both, homes = (stays, sessions.read_cycles(data.schema)), exploration.homes(data, series)
    for language in labels.LANGUAGES:
        labels.use(language)
        drawn = [exploration.resources(homes), exploration.hours(exploration.hours_data(series))]
        drawn += [exploration.months(exploration.months_data(series)), exploration.sessions(stays)]
        drawn += [exploration.split_calendar(exploration.splits_data()), exploration.odd_homes(homes, series)]
        for fig in [*drawn, exploration.agreement(both, both)]:
            assert not bare(fig)


def test_captions_of_the_data_tell_what_is_odd_and_what_is_cut_off(frames) -> None:
    data = find("offline")
    homes = exploration.homes(data, exploration.read(data))
    assert homes["appliance_mwh"].count() == 1
    assert re.findall(r"home (\d+)", exploration.odd_homes_caption(homes, data.edition)) == ["12", "15", "14", "15"]
    hourly = frames["load_duration"][0]
    year = hourly.assign(row=hourly["row"] + 8759 - HOURS)  # its last action is in the last row but one
    assert ["no action" in figures.caption("load_duration", frame) for frame in (hourly, year)] == [False, True]


def test_homes_and_their_chargers_are_printed_as_a_reader_writes_them() -> None:
    with labels.using("es"):
        homes = tables.printed(pd.DataFrame({"home": ["Building_15"], "charger_kw": ["7.4 + 11"]}))
    assert homes.iloc[0].tolist() == ["15", "7,4 + 11"]


def test_the_table_of_the_fit_has_numbers_in_its_file_and_words_in_print() -> None:
    stays, cycles = (read(find("offline").schema) for read in (sessions.read_sessions, sessions.read_cycles))
    table = exploration.agreement_table((stays, cycles), (stays, cycles))
    assert table[["official", "generated", "ratio"]].dtypes.eq(float).all()
    labels.use("es")
    first, *_, last = tables.printed(table).to_numpy().tolist()
    assert first == ["sesiones", labels.number(len(stays), 0), labels.number(len(stays), 0), "1,000"]
    assert last[0] == "duración del ciclo, media (h)"


def test_losses_of_different_learners_share_no_axis(frames) -> None:
    log, references = frames["learning_curves"]
    ours = log.assign(variant="announce")
    both = pd.concat([ours, log.assign(controller="marlisa", variant="default")])
    assert len(figures.learning_curves(ours, references).axes) == 4
    whole, _, enlarged, _ = figures.learning_curves(both, references).axes
    assert whole.get_ylabel() == enlarged.get_ylabel() == "Validation\ncomposite (–)"
    theirs = log.dropna(subset=["composite"]).groupby("seed")["composite"]
    low, high = enlarged.get_ylim()
    assert low < theirs.min().min() <= theirs.first().max() < high  # however far one of them goes later
    assert "loss" in figures.caption("learning_curves", ours) and "loss" not in figures.caption("learning_curves", both)


def test_a_missed_departure_is_seen_and_counted_to_the_hundredth() -> None:
    frame = pd.DataFrame({"soc": [0.7497, 0.6, *[0.75] * 998], "required": 0.8, "feasible": True, "seed": 0})
    frame = frame.assign(met=frame["soc"] >= 0.75, controller="rule", variant="default")
    fig = hourly.departure_margins(frame)
    tops = [bar for bar in fig.axes[0].patches if bar.get_x() < -5.1 and bar.get_height() == 1]
    assert len(tops) == 2 and fig.axes[0].get_yscale() == "log" and fig.axes[0].get_ylim()[0] < 1
    margins = figures.FIGURES["departure_margins"].data(frame)
    assert margins.loc[margins["margin"] < -5, "departures"].sum() == 2
    assert "2 of 1,000" in figures.caption("departure_margins", frame)


def test_the_heat_map_marks_who_fails_and_what_rises(frames) -> None:
    homes, failing = frames["home_heatmap"][0], [("random", "default")]
    fig = hourly.home_heatmap(homes, failing)
    names = [tick.get_text() for tick in fig.axes[0].get_yticklabels()]
    assert [name for name in names if "†" in name] == ["Random †"]
    assert sum(patch.get_hatch() is not None for patch in fig.axes[0].patches) == 17  # all homes of one controller
    assert "Below the service gate: Random." in figures.caption("home_heatmap", homes, failing)


def test_a_caption_says_which_weeks_engine_and_edition(frames) -> None:
    of = {"split": "test", "engine": "citylearn", "edition": "official"}
    text = figures.caption("load_duration", *frames["load_duration"], of=of)
    assert "seed 0" in text and text.endswith(" Test weeks, CityLearn, official edition.")


def test_deterministic_controllers_get_no_interval(kpis: pd.DataFrame) -> None:
    rows = tables.summary(tables.select(kpis, split="test", engine="citylearn"))
    assert rows[rows["controller"] == "rule"]["half"].isna().all()
    assert rows[rows["controller"] == "cooperative_maddpg"]["half"].notna().all()


def test_every_label_is_in_both_languages_with_the_same_fields() -> None:
    fields = [
        {name for _, name, _, _ in string.Formatter().parse(text) if name}
        for pair in labels.TEXT.values()
        for text in pair
    ]
    assert all(len(pair) == 2 and all(pair) for pair in labels.TEXT.values())
    assert [a - {"space"} for a in fields[::2]] == [b - {"space"} for b in fields[1::2]]
    assert all(f"kpi.{name}" in labels.TEXT for name in measured.UNITS)
    assert all(f"split.{name}" in labels.TEXT for name in (*measured.SPLITS, "year"))


def test_numbers_follow_the_language() -> None:
    assert labels.number(-1234.5, 1) == "−1,234.5"
    labels.use("es")
    assert labels.number(-1234.5, 1) == "−1234,5"
    assert labels.number(30836, 0) == "30\u202f836"
    assert labels.percent(0.873, 1) == "87,3\u202f%"
    assert labels.Numbers().format_ticks([0.1, 0.25]) == ["0,10", "0,25"]
    assert labels.number(-0.0001, 2) == "0,00"
    assert labels.day(0).startswith("1") and labels.day(0).endswith("ago") and labels.date(0) == "1 de agosto"


def test_wrong_asks_are_told_in_one_line(frames) -> None:
    for call in (
        lambda: labels.use("fr"),
        lambda: labels.t("no.such"),
        lambda: labels.t("caption.peak"),
        lambda: figures.caption("no_such"),
        lambda: hourly.hardest(frames["load_duration"][0], [(9000, 9100)]),
    ):
        with pytest.raises(ValueError) as told:
            call()
        assert "\n" not in str(told.value)
    assert labels.language() == "en"


def test_a_failed_save_leaves_the_good_figure(frames, monkeypatch: pytest.MonkeyPatch) -> None:
    good = page.save(hourly.load_duration(*frames["load_duration"]), "one", "test", "One.")
    before = good.read_bytes()
    fig = hourly.load_duration(*frames["load_duration"])

    def broken(target, **_: object) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(fig, "savefig", broken)
    with pytest.raises(OSError):
        page.save(fig, "one", "test", "One.")
    assert good.read_bytes() == before
    assert sorted(p.name for p in good.parent.iterdir()) == ["one.pdf", "one.png", "one.tex", "one.txt"]


@pytest.mark.parametrize("count", [2, 3, 5, 7, 10])
def test_a_legend_stays_within_its_figure(count: int) -> None:
    names = ["Práctica habitual (BAU)", "MARLISA", "MADDPG", "MADDPG cooperativo (anuncio)", "TD3 independiente"] * 2
    fig, ax = plt.subplots(figsize=(page.TEXT_WIDTH, 3.0))
    for name in names[:count]:
        ax.plot([0, 1], label=name)
    page.legend_below(fig, ax)
    fig.draw_without_rendering()
    box = fig.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= fig.bbox.x1
    plt.close(fig)
