"""The figures and tables of notebook 01: what the community is, before anybody controls it.

Every figure has a unit on every axis, a caption (``<figure>_caption``) and what it is drawn from (``<figure>_data``,
or the table of `homes`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from thesis_lib.analysis import labels
from thesis_lib.analysis.labels import t
from thesis_lib.analysis.page import QUANTITIES, TEXT_WIDTH
from thesis_lib.community.dataset import Dataset
from thesis_lib.community.sessions import kind_of_day, read_cycles, summary
from thesis_lib.community.splits import FIRST_DAY, SPLITS, split_of_rows

ODD_HOMES = ("Building_12", "Building_15")
LOW_YIELD = 1000  # kWh per kW a year: below it a PV is odd too

labels.TEXT.update(
    {
        "data.home": ("Vivienda", "Home"),
        "data.home_number": ("Vivienda (número)", "Home (number)"),
        "data.load": ("Consumo", "Load"),
        "data.pv": ("Fotovoltaica", "PV"),
        "data.energy_year": ("Energía anual (MWh)", "Annual energy (MWh)"),
        "data.col_pv": ("FV\nkW", "PV\nkW"),
        "data.col_battery": ("Batería\nkWh", "Battery\nkWh"),
        "data.col_charger": ("Cargador\nkW", "Charger\nkW"),
        "data.col_car": ("Coche\nkWh", "Car\nkWh"),
        "data.col_appliance": ("Electrod.\nMWh/año", "Appliance\nMWh/year"),
        "data.hour": ("Hora del día (h)", "Hour of day (h)"),
        "data.district_load": ("Consumo del distrito (kW)", "District load (kW)"),
        "data.district_pv": ("FV del distrito (kW)", "District PV (kW)"),
        "data.price": ("Precio (€/kWh)", "Price (€/kWh)"),
        "data.carbon": ("Carbono (kg CO₂/kWh)", "Carbon (kg CO₂/kWh)"),
        "data.band": ("10–90{space}% de los días", "10–90% of days"),
        "data.mean": ("media", "mean"),
        "data.month_energy": ("Energía mensual (MWh)", "Monthly energy (MWh)"),
        "data.working": ("día laborable", "working day"),
        "data.rest": ("día de descanso", "rest day"),
        "data.share_sessions": ("Sesiones (%)", "Sessions (%)"),
        "data.share_cycles": ("Ciclos (%)", "Cycles (%)"),
        "data.departure_hour": ("Hora de salida (h)", "Departure hour (h)"),
        "data.arrival_hour": ("Hora de llegada (h)", "Arrival hour (h)"),
        "data.stay_hours": ("Estancia (h)", "Stay (h)"),
        "data.arrival_soc": ("SOC al llegar (%)", "Arrival SOC (%)"),
        "data.required_soc": ("SOC exigido (%)", "Required SOC (%)"),
        "data.connected": ("Coches conectados\n(número)", "Connected cars\n(number)"),
        "data.cycle_energy": ("Energía por ciclo (kWh)", "Cycle energy (kWh)"),
        "data.official": ("oficial", "official"),
        "data.generated": ("generada", "generated"),
        "data.day_of_month": ("Día del mes (número)", "Day of month (number)"),
        "data.sun_correlation": ("Correlación consumo–irradiancia (–)", "Load–irradiance correlation (–)"),
        "data.yield": ("Producción FV (kWh/kW al año)", "PV yield (kWh/kW a year)"),
        "data.load_shape": ("Consumo medio (kW)", "Mean load (kW)"),
        "data.others": ("mediana de las demás", "median of the others"),
        "data.caption_homes": (
            "Las 17 viviendas, edición {edition}: consumo, fotovoltaica y lo que se puede controlar. "
            "Corr. sol: correlación del consumo con la irradiancia.",
            "The 17 homes, {edition} edition: load, PV and what can be controlled. "
            "Sun corr.: correlation of the load with irradiance.",
        ),
        "data.caption_splits": (
            "Días y sesiones de carga de cada parte del año, edición {edition}.",
            "Days and charging sessions of each part of the year, {edition} edition.",
        ),
        "data.caption_fit": (
            "Sesiones y ciclos de un año: edición oficial y generador de la edición sin conexión.",
            "A year's sessions and cycles: official edition and the generator of the offline edition.",
        ),
        "data.figure_resources": (
            "Recursos de las {homes} viviendas, edición {edition}: {load}{space}MWh de consumo y {pv}{space}MWh "
            "fotovoltaicos al año, baterías de {battery}{space}kWh en total, coches de {cars}{space}kWh en "
            "{with_cars} viviendas y un electrodoméstico que gasta otros {appliance}{space}MWh al año.",
            "Resources of the {homes} homes, {edition} edition: {load}{space}MWh of load and {pv}{space}MWh of PV a "
            "year, batteries of {battery}{space}kWh in all, cars of {cars}{space}kWh in {with_cars} homes and an "
            "appliance that takes another {appliance}{space}MWh a year.",
        ),
        "data.figure_hours": (
            "El día medio y la banda del 80{space}% de los días, edición {edition}. Máximos del día medio: consumo "
            "{load}{space}kW a las {load_hour}{space}h, fotovoltaica {pv}{space}kW a las {pv_hour}{space}h; la hora "
            "más barata es la de las {cheap}{space}h y la más cara la de las {dear}{space}h; la más limpia, la de las "
            "{clean}{space}h y la más sucia, la de las {dirty}{space}h.",
            "The mean day and the band of 80% of the days, {edition} edition. Highest of the mean day: load "
            "{load}{space}kW at {load_hour}{space}h, PV {pv}{space}kW at {pv_hour}{space}h; the cheapest hour is "
            "{cheap}{space}h and the dearest {dear}{space}h; the cleanest {clean}{space}h and the dirtiest "
            "{dirty}{space}h.",
        ),
        "data.figure_months": (
            "Consumo, fotovoltaica, precio y carbono mes a mes, edición {edition}: entre {least} ({low}{space}MWh) y "
            "{most} ({high}{space}MWh) de consumo; el mes más caro es {dear} ({price}{space}€/kWh).",
            "Load, PV, price and carbon month by month, {edition} edition: from {least} ({low}{space}MWh) to {most} "
            "({high}{space}MWh) of load; the dearest month is {dear} ({price}{space}€/kWh).",
        ),
        "data.figure_sessions": (
            "{sessions} sesiones de carga, edición {edition}, en días laborables (relleno; línea de trazos) y de "
            "descanso (contorno; línea continua): estancia media {stay}{space}h, SOC medio al llegar {arrival}{space}% "
            "y exigido {required}{space}%.",
            "{sessions} charging sessions, {edition} edition, on working days (filled; dashed line) and rest days "
            "(outline; solid line): mean stay {stay}{space}h, mean SOC on arrival {arrival}% and required {required}%.",
        ),
        "data.figure_splits": (
            "Las partes del año: {train} días de entrenamiento, {validation} de validación (V) y {test} de prueba (P).",
            "The parts of the year: {train} days of training, {validation} of validation (V) and {test} of test (T).",
        ),
        "data.figure_odd_homes": (
            "Dos viviendas cuyo «consumo» sigue al sol, edición {edition}: correlación con la irradiancia {first} "
            "(vivienda 12) y {second} (vivienda 15); la mediana de las demás es {others}. Poca producción fotovoltaica "
            "(kWh/kW al año): {low}; la mediana de las demás es {usual}.",
            "Two homes whose “load” follows the sun, {edition} edition: correlation with irradiance {first} (home 12) "
            "and {second} (home 15); the median of the others is {others}. Poor PV yield (kWh/kW a year): {low}; "
            "the median of the others is {usual}.",
        ),
        "data.of_home": ("{value} (vivienda {home})", "{value} (home {home})"),
        "data.figure_fit": (
            "El generador de la edición sin conexión junto a la oficial: {generated} sesiones generadas y {official} "
            "oficiales, estancia media {stay_generated} y {stay_official}{space}h.",
            "The generator of the offline edition beside the official one: {generated} generated sessions and "
            "{official} official ones, mean stay {stay_generated} and {stay_official}{space}h.",
        ),
        "table.days": ("Días", "Days"),
        "table.sessions": ("Sesiones", "Sessions"),
        "table.home": ("Vivienda", "Home"),
        "table.load_mwh": ("Consumo (MWh)", "Load (MWh)"),
        "table.peak_kw": ("Pico (kW)", "Peak (kW)"),
        "table.pv_kw": ("FV (kW)", "PV (kW)"),
        "table.pv_mwh": ("FV (MWh)", "PV (MWh)"),
        "table.pv_yield": ("kWh/kW FV", "kWh/kW PV"),
        "table.sun": ("Corr. sol", "Sun corr."),
        "table.battery_kwh": ("Batería (kWh)", "Battery (kWh)"),
        "table.charger_kw": ("Cargador (kW)", "Charger (kW)"),
        "table.car_kwh": ("Coche (kWh)", "Car (kWh)"),
        "table.appliance_mwh": ("Electrod. (MWh)", "Appliance (MWh)"),
        "table.official": ("Oficial", "Official"),
        "table.generated": ("Generada", "Generated"),
        "table.ratio": ("Cociente", "Ratio"),
        # the names of sessions.summary
        **{
            f"figure.{english}": (spanish, english)
            for english, spanish in {
                "sessions": "sesiones",
                "connected hours": "horas conectadas",
                "stay, mean (h)": "estancia, media (h)",
                "stays over 24 h": "estancias de más de 24 h",
                "sessions with hidden departure": "sesiones con salida oculta",
                "hours with hidden departure": "horas con salida oculta",
                "trip, mean (h)": "viaje, media (h)",
                "arrival hour, mean": "hora de llegada, media",
                "departure hour, mean": "hora de salida, media",
                "arrival SOC, mean (%)": "SOC al llegar, media (%)",
                "arrival SOC, standard deviation (%)": "SOC al llegar, desviación típica (%)",
                "arrivals without SOC": "llegadas sin SOC",
                "required SOC, mean (%)": "SOC exigido, media (%)",
                "required above arrival, mean (%)": "SOC exigido menos el de llegada, media (%)",
                "hours announced, mean": "horas de antelación del anuncio, media",
                "appliance cycles": "ciclos del electrodoméstico",
                "cycle energy, mean (kWh)": "energía por ciclo, media (kWh)",
                "cycle energy, standard deviation (kWh)": "energía por ciclo, desviación típica (kWh)",
                "cycle length, mean (h)": "duración del ciclo, media (h)",
            }.items()
        },
    }
)


HOURS = pd.date_range(pd.Timestamp(FIRST_DAY), periods=8760, freq="h")  # the hour that starts with each row
HOUR = HOURS.hour.to_numpy()


class Series(NamedTuple):
    """A year of the community, indexed by hour.

    ``load`` and ``pv`` (8760, 17) in kWh per hour, a column per home; ``price`` (8760,) in EUR/kWh;
    ``carbon`` (8760,) in kg CO2/kWh; ``irradiance`` (8760,) direct plus diffuse, in W/m2; ``pv_kw`` (17,)
    nominal power per home. A row is labelled by the hour that starts with it.
    """

    load: pd.DataFrame
    pv: pd.DataFrame
    price: pd.Series
    carbon: pd.Series
    irradiance: pd.Series
    pv_kw: pd.Series


def read(dataset: Dataset) -> Series:
    """Read a community's series from its files (PV: W per kW, times the home's kW)."""
    folder = dataset.schema.parent
    buildings = json.loads(dataset.schema.read_text(encoding="utf-8"))["buildings"]
    tables = {name: pd.read_csv(folder / entry["energy_simulation"]) for name, entry in buildings.items()}
    pv_kw = pd.Series({name: float(entry["pv"]["attributes"]["nominal_power"]) for name, entry in buildings.items()})
    weather = pd.read_csv(folder / "weather.csv")

    def indexed(values: pd.Series) -> pd.Series:
        return pd.Series(values.to_numpy(dtype=float), index=HOURS)

    return Series(
        load=pd.DataFrame({name: indexed(table["non_shiftable_load"]) for name, table in tables.items()}),
        pv=pd.DataFrame({n: indexed(table["solar_generation"]) * pv_kw[n] / 1000 for n, table in tables.items()}),
        price=indexed(pd.read_csv(folder / "pricing.csv")["electricity_pricing"]),
        carbon=indexed(pd.read_csv(folder / "carbon_intensity.csv")["carbon_intensity"]),
        irradiance=indexed(weather["direct_solar_irradiance"] + weather["diffuse_solar_irradiance"]),
        pv_kw=pv_kw,
    )


def homes(dataset: Dataset, series: Series) -> pd.DataFrame:
    """What each home has, one line per home.

    Returns:
        Energy of load and PV (MWh), peak (kW), PV yield (kWh per kW), correlation of load and irradiance, and
        what can be controlled there (a dash where there is none; two chargers or cars as ``7.4 + 11``; of an
        appliance the MWh of its cycles, NaN where there is none).
    """
    appliances = read_cycles(dataset.schema).groupby("home")["energy"].sum() / 1000
    schema = json.loads(dataset.schema.read_text(encoding="utf-8"))
    lines = []
    for name, building in schema["buildings"].items():
        chargers = building.get("chargers") or {}
        first = [pd.read_csv(dataset.schema.parent / c["charger_simulation"], nrows=8760) for c in chargers.values()]
        cars = [table["electric_vehicle_id"].dropna().iat[0] for table in first]
        lines.append(
            {
                "home": name.removeprefix("Building_"),
                "load_mwh": series.load[name].sum() / 1000,
                "peak_kw": series.load[name].max(),
                "pv_kw": series.pv_kw[name],
                "pv_mwh": series.pv[name].sum() / 1000,
                "pv_yield": series.pv[name].sum() / series.pv_kw[name],
                "sun": series.load[name].corr(series.irradiance),
                "battery_kwh": building["electrical_storage"]["attributes"]["capacity"],
                "charger_kw": _joined([c["attributes"]["max_charging_power"] for c in chargers.values()]),
                "car_kwh": _joined(
                    [schema["electric_vehicles_def"][car]["battery"]["attributes"]["capacity"] for car in cars]
                ),
                "appliance_mwh": appliances.get(name, np.nan),
            }
        )
    return pd.DataFrame(lines)


def resources(table: pd.DataFrame) -> Figure:
    """Who has what: annual load and PV of each home, and what can be controlled there."""
    fig, (bars, grid) = plt.subplots(1, 2, figsize=(TEXT_WIDTH, 4.6), sharey=True, width_ratios=(1, 1.05))
    place = np.arange(len(table))
    bars.barh(place - 0.2, table["load_mwh"], 0.38, color=QUANTITIES["load"], label=t("data.load"))
    bars.barh(
        place + 0.2,
        table["pv_mwh"],
        0.38,
        color=QUANTITIES["pv"],
        hatch="////",
        edgecolor="white",
        label=t("data.pv"),
    )
    bars.set(xlabel=t("data.energy_year"), ylabel=t("data.home_number"))
    bars.set_yticks(place, table["home"])
    bars.invert_yaxis()
    bars.grid(axis="y", visible=False)
    bars.xaxis.set_major_formatter(labels.Numbers())
    bars.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    columns = ["pv_kw", "battery_kwh", "charger_kw", "car_kwh", "appliance_mwh"]
    shown = table[columns].round({"appliance_mwh": 1})
    shown = shown.map(lambda cell: labels.decimals(cell) if isinstance(cell, str) else labels.number(cell, None))
    grid.imshow(
        (shown != "–").to_numpy(dtype=float),
        cmap=ListedColormap(["white", "#dbe7f3"]),
        aspect="auto",
        vmin=0,
        vmax=1,
    )
    for row, line in enumerate(shown.to_numpy()):
        for column, text in enumerate(line):
            grid.text(column, row, text, ha="center", va="center", fontsize=8)
    names = ("pv", "battery", "charger", "car", "appliance")
    grid.set_xticks(range(len(columns)), [t(f"data.col_{name}") for name in names], fontsize=8)
    grid.xaxis.tick_top()
    grid.tick_params(length=0)
    grid.grid(visible=False)
    for edge in np.arange(0.5, len(columns) - 1):
        grid.axvline(edge, color="white", linewidth=2)
    for edge in np.arange(0.5, len(table) - 1):
        grid.axhline(edge, color="white", linewidth=1)
    sns.despine(ax=grid, left=True, bottom=True)
    return fig


def hours(by_hour: pd.DataFrame) -> Figure:
    """Load, PV, price and carbon by hour of day, as `hours_data` gives them: the mean, the band of 80 % of the days."""
    fig, axes = plt.subplots(2, 2, figsize=(TEXT_WIDTH, 3.9), sharex=True)
    shown = {"load": "district_load", "pv": "district_pv", "price": "price", "carbon": "carbon"}
    place = by_hour["hour"]
    for axis, (name, label) in zip(axes.flat, shown.items(), strict=True):
        low, high, colour = by_hour[f"{name}_10"], by_hour[f"{name}_90"], QUANTITIES[name]
        axis.fill_between(place, low, high, color=colour, alpha=0.25, linewidth=0)
        axis.plot(place, by_hour[name], color=colour)
        axis.set(ylabel=t(f"data.{label}"), xlim=(0, 23), xticks=range(0, 24, 6))
        axis.set_ylim(bottom=0)
        axis.yaxis.set_major_formatter(labels.Numbers())
    for axis in axes[1]:
        axis.set_xlabel(t("data.hour"))
    handles = [
        Line2D([], [], color="0.3", label=t("data.mean")),
        Patch(facecolor="0.3", alpha=0.25, linewidth=0, label=t("data.band")),
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=2)
    return fig


def months(by_month: pd.DataFrame) -> Figure:
    """Energy of load and PV, mean price and carbon, month by month, as `months_data` gives them."""
    fig, (energy, price, carbon) = plt.subplots(3, 1, figsize=(TEXT_WIDTH, 4.2), sharex=True, height_ratios=(2, 1, 1))
    place = np.arange(len(by_month))
    for offset, name in ((-0.2, "load"), (0.2, "pv")):
        hatch = {"hatch": "////", "edgecolor": "white"} if name == "pv" else {}
        energy.bar(place + offset, by_month[name], 0.38, color=QUANTITIES[name], label=t(f"data.{name}"), **hatch)
    energy.legend(ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    energy.set_ylabel(t("data.month_energy"))
    for axis, name in ((price, "price"), (carbon, "carbon")):
        axis.plot(place, by_month[name], marker="o", markersize=4, color=QUANTITIES[name])
        axis.set_ylabel(t(f"data.{name}").replace(" (", "\n("))
        axis.set_ylim(0, axis.get_ylim()[1] * 1.1)
    for axis in (energy, price, carbon):
        axis.yaxis.set_major_formatter(labels.Numbers())
        axis.grid(axis="x", visible=False)
    carbon.set_xticks(place, [_month(month) for month in by_month["month"]])
    fig.align_ylabels()
    return fig


# Panels of `sessions` and `agreement`: what is counted, and in which classes.
BINS: dict[str, Sequence[float]] = {
    "departure_hour": range(25),
    "arrival_hour": range(25),
    "stay_hours": range(0, 73, 3),
    "arrival_soc": range(0, 101, 5),
    "required_soc": range(60, 102, 2),
    "cycle_energy": range(0, 101, 5),
}


def _session_values(table: pd.DataFrame) -> dict[str, tuple[pd.Series, np.ndarray]]:
    """Each panel's value for every session that has it (h, SOC 0 to 1), and the kind of day: of leaving, or, where it
    is about coming back, of the day on which the car had left."""
    trips, complete = table[table["trip"] > 0], table[table["complete"]]
    left = np.array([kind_of_day(int(day)) for day in (trips["arrival"] - trips["trip"]) // 24])
    leaves = np.array([kind_of_day(int(row) // 24) for row in complete["departure"]])
    return {
        "departure_hour": (complete["departure"] % 24, leaves),
        "arrival_hour": (trips["arrival"] % 24, left),
        "stay_hours": (complete["departure"] - complete["arrival"], leaves),
        "arrival_soc": (trips["arrival_soc"], left),
        "required_soc": (complete["required_soc"], leaves),
    }


def _shares(axis: Axes, name: str, values: pd.Series, **style: Any) -> None:
    """A panel: the share of the values in each class, in per cent, as `BINS` has them."""
    shown = (100 * values if name.endswith("_soc") else values).dropna()
    axis.hist(shown, BINS[name], weights=np.full(len(shown), 100 / len(shown)), **style)
    axis.set_xlabel(t(f"data.{name}"))
    axis.yaxis.set_major_formatter(labels.Numbers())
    if name.endswith("_hour"):
        axis.set_xticks(range(0, 25, 6))
    if name == "stay_hours":
        axis.set_xticks(range(0, 73, 24))


def sessions(table: pd.DataFrame) -> Figure:
    """When cars come and go, how long they stay, what they bring and what they must leave with."""
    fig, axes = plt.subplots(2, 3, figsize=(TEXT_WIDTH, 4.2))
    colours = (QUANTITIES["chargers"], "0.1")
    for axis, (name, (values, kinds)) in zip(axes.flat, _session_values(table).items(), strict=False):
        _shares(axis, name, values[kinds == "working"], color=colours[0], alpha=0.45)
        _shares(axis, name, values[kinds == "rest"], color=colours[1], histtype="step", linewidth=1.4)
    for axis in axes[:, 0]:
        axis.set_ylabel(t("data.share_sessions"))
    count = np.zeros(8760)
    for arrival, departure in zip(table["arrival"], table["departure"], strict=True):
        count[arrival:departure] += 1
    rest = np.array([kind_of_day(day) == "rest" for day in range(365)])
    last = axes.flat[5]
    for days, colour, line in zip((~rest, rest), colours, ("--", "-"), strict=True):
        last.plot(count.reshape(365, 24)[days].mean(axis=0), color=colour, linestyle=line)
    last.set(xlabel=t("data.hour"), ylabel=t("data.connected"), ylim=(0, 8.2), xlim=(0, 23), xticks=range(0, 24, 6))
    handles = [
        Patch(facecolor=colours[0], alpha=0.45, label=t("data.working")),
        Patch(facecolor="none", edgecolor=colours[1], linewidth=1.4, label=t("data.rest")),
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=2)
    return fig


def agreement(official: tuple[pd.DataFrame, pd.DataFrame], generated: tuple[pd.DataFrame, pd.DataFrame]) -> Figure:
    """The generator beside the official files; each pair is (sessions, cycles)."""
    fig, axes = plt.subplots(2, 3, figsize=(TEXT_WIDTH, 4.2))
    colours = sns.color_palette()
    outline = {"histtype": "step", "linewidth": 1.4, "color": colours[3]}
    for (table, cycles), style in ((official, {"color": "0.75"}), (generated, outline)):
        panels = {name: values for name, (values, _) in _session_values(table).items()}
        panels["cycle_energy"] = cycles["energy"]
        for axis, (name, values) in zip(axes.flat, panels.items(), strict=True):
            _shares(axis, name, values, **style)
    axes[0, 0].set_ylabel(t("data.share_sessions"))
    axes[1, 0].set_ylabel(t("data.share_sessions"))
    axes[1, 2].set_ylabel(t("data.share_cycles"))
    handles = [
        Patch(facecolor="0.75", label=t("data.official")),
        Patch(facecolor="none", edgecolor=colours[3], linewidth=1.4, label=t("data.generated")),
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=2)
    return fig


def agreement_table(
    official: tuple[pd.DataFrame, pd.DataFrame], generated: tuple[pd.DataFrame, pd.DataFrame]
) -> pd.DataFrame:
    """What :func:`agreement` draws, in figures: one line each, by the names of ``sessions.summary``."""
    table = pd.DataFrame({"official": summary(*official), "generated": summary(*generated)}).round(2)
    return table.assign(ratio=table["generated"] / table["official"]).rename_axis("figure").reset_index()


def split_calendar(parts: pd.DataFrame) -> Figure:
    """Each day of the year in the colour of its split (`splits_data`), with a letter for black-and-white print."""
    months_ = sorted(set(parts["month"]))
    cells = np.full((len(months_), 31), np.nan)
    for line in parts.itertuples():
        cells[months_.index(line.month), line.first - 1 : line.last] = SPLITS.index(line.split)
    colours = [sns.color_palette("pastel")[0], sns.color_palette()[1], sns.color_palette("dark")[3]]
    fig, axis = plt.subplots(figsize=(TEXT_WIDTH, 3.0))
    axis.pcolormesh(
        np.arange(32) + 0.5,
        np.arange(len(months_) + 1),
        cells,
        cmap=ListedColormap(colours),
        edgecolor="white",
        vmin=0,
        vmax=2,
    )
    for row, column in np.argwhere(cells > 0):
        letter = labels.split(SPLITS[int(cells[row, column])])[0]
        ink = "black" if cells[row, column] == 1 else "white"
        axis.text(column + 1, row + 0.5, letter, ha="center", va="center", fontsize=6.5, color=ink)
    axis.invert_yaxis()
    axis.set_yticks(np.arange(len(months_)) + 0.5, [f"{_month(m)} {m[:4]}" for m in months_], fontsize=8)
    axis.set_xticks([1, 5, 10, 15, 20, 25, 30])
    axis.set(xlabel=t("data.day_of_month"))
    axis.grid(visible=False)
    handles = [Patch(facecolor=colour, label=labels.split(name)) for colour, name in zip(colours, SPLITS, strict=True)]
    fig.legend(handles=handles, loc="outside upper center", ncols=3)
    sns.despine(ax=axis, left=True, bottom=True)
    return fig


def odd_homes(table: pd.DataFrame, series: Series) -> Figure:
    """Two meters that do not measure what their column says: load that follows the sun, PV that does not."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(TEXT_WIDTH, 2.9))
    odd = {name.removeprefix("Building_") for name in ODD_HOMES}
    colours = sns.color_palette()
    for line in table.to_dict("records"):
        strange = line["home"] in odd
        left.plot(
            line["sun"],
            line["pv_yield"],
            "D" if strange else "o",
            color=colours[3] if strange else colours[0],
            markersize=5,
        )
        if strange or line["pv_yield"] < LOW_YIELD:
            _beside(left, line["sun"], line["pv_yield"], line["home"])
    left.set(xlabel=t("data.sun_correlation"), ylabel=t("data.yield"), ylim=(-80, 2000), xlim=(-0.45, 1.02))
    others = [name for name in series.load if name not in ODD_HOMES]
    shapes = series.load.groupby(HOUR).mean()
    for name, style, colour in zip(ODD_HOMES, ("-", "--"), (colours[3], colours[4]), strict=True):
        right.plot(shapes[name], style, color=colour, label=f"{t('data.home')} {name.removeprefix('Building_')}")
    right.plot(shapes[others].median(axis=1), ":", color="0.2", label=t("data.others"))
    right.set(xlabel=t("data.hour"), ylabel=t("data.load_shape"), xlim=(0, 23), xticks=range(0, 24, 6))
    right.set_ylim(0, right.get_ylim()[1] * 1.3)
    right.legend(loc="upper left", fontsize=7.5)
    for axis in (left, right):
        axis.xaxis.set_major_formatter(labels.Numbers())
        axis.yaxis.set_major_formatter(labels.Numbers())
    return fig


def _beside(axis: Axes, x: float, y: float, text: str) -> None:
    axis.annotate(text, (x, y), xytext=(5, 3), textcoords="offset points", fontsize=8)


def _joined(values: list[float]) -> str:
    return " + ".join(f"{value:g}" for value in values) or "–"


# ------------------------------------------------------------------- captions, and what is drawn


def resources_caption(table: pd.DataFrame, edition: str) -> str:
    """The caption of `resources`; ``table`` of `homes`."""
    cars = [part for cell in table.loc[table["car_kwh"] != "–", "car_kwh"] for part in cell.split(" + ")]
    return t(
        "data.figure_resources",
        homes=len(table),
        load=labels.number(table["load_mwh"].sum(), 1),
        pv=labels.number(table["pv_mwh"].sum(), 1),
        battery=labels.number(table["battery_kwh"].sum(), 1),
        cars=labels.number(sum(map(float, cars)), 0),
        with_cars=int((table["car_kwh"] != "–").sum()),
        appliance=labels.number(table["appliance_mwh"].sum(), 1),
        edition=t(f"edition.{edition}"),
    )


def hours_caption(by_hour: pd.DataFrame, edition: str) -> str:
    """The caption of `hours`, from the same data."""
    frame = by_hour.set_index("hour")
    return t(
        "data.figure_hours",
        load=labels.number(frame["load"].max(), 1),
        load_hour=frame["load"].idxmax(),
        pv=labels.number(frame["pv"].max(), 1),
        pv_hour=frame["pv"].idxmax(),
        cheap=frame["price"].idxmin(),
        dear=frame["price"].idxmax(),
        clean=frame["carbon"].idxmin(),
        dirty=frame["carbon"].idxmax(),
        edition=t(f"edition.{edition}"),
    )


def months_caption(by_month: pd.DataFrame, edition: str) -> str:
    """The caption of `months`, from the same data."""
    frame = by_month.set_index("month")
    least, most, dear = frame["load"].idxmin(), frame["load"].idxmax(), frame["price"].idxmax()
    return t(
        "data.figure_months",
        least=_month(least, "full_month"),
        low=labels.number(frame.loc[least, "load"], 1),
        most=_month(most, "full_month"),
        high=labels.number(frame.loc[most, "load"], 1),
        dear=_month(dear, "full_month"),
        price=labels.number(frame.loc[dear, "price"], 3),
        edition=t(f"edition.{edition}"),
    )


def sessions_caption(table: pd.DataFrame, edition: str) -> str:
    """The caption of `sessions`, from the same sessions."""
    means = {name: values.mean() for name, (values, _) in _session_values(table).items()}
    return t(
        "data.figure_sessions",
        sessions=labels.number(len(table), 0),
        stay=labels.number(means["stay_hours"], 1),
        arrival=labels.number(100 * means["arrival_soc"], 0),
        required=labels.number(100 * means["required_soc"], 0),
        edition=t(f"edition.{edition}"),
    )


def split_calendar_caption(parts: pd.DataFrame) -> str:
    """The caption of `split_calendar`, from the same data."""
    days = parts.groupby("split")["days"].sum()
    return t("data.figure_splits", **{name: int(days[name]) for name in SPLITS})


def odd_homes_caption(table: pd.DataFrame, edition: str) -> str:
    """The caption of `odd_homes`; ``table`` of `homes`."""
    sun, pv = table.set_index("home")["sun"], table.set_index("home")["pv_yield"]
    low = [t("data.of_home", value=labels.number(pv[home], 0), home=home) for home in pv.index[pv < LOW_YIELD]]
    first, second = odd = [name.removeprefix("Building_") for name in ODD_HOMES]
    return t(
        "data.figure_odd_homes",
        first=labels.number(sun[first], 2),
        second=labels.number(sun[second], 2),
        others=labels.number(sun.drop(odd).median(), 2),
        low=labels.listing(low),
        usual=labels.number(pv[pv >= LOW_YIELD].median(), 0),
        edition=t(f"edition.{edition}"),
    )


def agreement_caption(official: tuple[pd.DataFrame, pd.DataFrame], generated: tuple[pd.DataFrame, pd.DataFrame]) -> str:
    """The caption of `agreement`."""
    counts = {"official": len(official[0]), "generated": len(generated[0])}
    numbers = {name: labels.number(count, 0) for name, count in counts.items()}
    for name, (stays, _) in (("official", official), ("generated", generated)):
        complete = stays[stays["complete"]]
        numbers[f"stay_{name}"] = labels.number((complete["departure"] - complete["arrival"]).mean(), 1)
    return t("data.figure_fit", **numbers)


def hours_data(series: Series) -> pd.DataFrame:
    """What `hours` draws: by hour, the mean and the 10 and 90 % quantiles of load and pv (kW), price and carbon."""
    columns = {
        "load": series.load.sum(axis=1),
        "pv": series.pv.sum(axis=1),
        "price": series.price,
        "carbon": series.carbon,
    }
    found: dict[str, pd.Series] = {}
    for name, values in columns.items():
        by_hour = values.groupby(HOUR)
        found |= {name: by_hour.mean(), f"{name}_10": by_hour.quantile(0.1), f"{name}_90": by_hour.quantile(0.9)}
    return pd.DataFrame(found).rename_axis("hour").reset_index()


def months_data(series: Series) -> pd.DataFrame:
    """What `months` draws: load and pv (MWh), mean price (EUR/kWh) and carbon (kg/kWh) of each month."""
    period = HOURS.to_period("M")
    columns = {
        "load": series.load.sum(axis=1).groupby(period).sum() / 1000,
        "pv": series.pv.sum(axis=1).groupby(period).sum() / 1000,
        "price": series.price.groupby(period).mean(),
        "carbon": series.carbon.groupby(period).mean(),
    }
    frame = pd.DataFrame(columns).rename_axis("month").reset_index()
    return frame.assign(month=frame["month"].astype(str))


def sessions_data(table: pd.DataFrame) -> pd.DataFrame:
    """What `sessions` draws, as means and medians by kind of day: what, kind, sessions, mean, median."""
    lines = [
        values.astype(float)
        .groupby(kinds)
        .agg(sessions="count", mean="mean", median="median")
        .rename_axis("kind")
        .reset_index()
        .assign(what=name)
        for name, (values, kinds) in _session_values(table).items()
    ]
    return pd.concat(lines, ignore_index=True)[["what", "kind", "sessions", "mean", "median"]].round(4)


def splits_data() -> pd.DataFrame:
    """What `split_calendar` draws: month, split, first and last day of the month, days."""
    days = pd.DataFrame(
        {"day": pd.date_range(pd.Timestamp(FIRST_DAY), periods=365, freq="D"), "split": split_of_rows()[::24]}
    )
    days["month"] = days["day"].dt.to_period("M").astype(str)
    runs = days.groupby(["month", "split"], sort=False)["day"]
    frame = runs.agg(first="min", last="max", days="count").reset_index()
    return frame.assign(first=frame["first"].dt.day, last=frame["last"].dt.day)


def _month(period: str, kind: str = "month") -> str:
    return t(f"{kind}.{int(period.split('-')[1])}")
