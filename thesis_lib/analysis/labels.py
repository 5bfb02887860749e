"""Every word that a figure, a table or a caption prints, in Spanish and in English, behind one switch.

``labels.use("es")`` once, then ``labels.t("axis.hour")``: no other file contains a word for the reader.
Keys are grouped by a prefix: ``kpi.``, ``controller.``, ``variant.``, ``split.``, ``engine.``, ``axis.``,
``legend.``, ``table.``, ``title.`` and ``caption.``. Numbers follow the language too (``number``): Spanish
writes a decimal comma and a thin space between thousands, English a point and a comma.
"""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.ticker import FuncFormatter

LANGUAGES = ("es", "en")
_language = "en"

# key: (Spanish, English)
TEXT: dict[str, tuple[str, str]] = {
    # what is measured
    "kpi.cost": ("Coste", "Cost"),
    "kpi.emissions": ("Emisiones", "Emissions"),
    "kpi.import": ("Importación", "Import"),
    "kpi.ramping": ("Rampas", "Ramping"),
    "kpi.daily_peak": ("Pico diario", "Daily peak"),
    "kpi.load_factor_penalty": ("1 − factor de carga", "1 − load factor"),
    "kpi.load_factor_penalty_median": ("1 − factor de carga (mediana)", "1 − load factor (median)"),
    "kpi.annual_peak": ("Pico anual", "Annual peak"),
    "kpi.self_consumption": ("Autoconsumo", "Self-consumption"),
    "kpi.battery_cycles": ("Ciclos de batería", "Battery cycles"),
    "kpi.ev_departures_met": ("Salidas atendidas", "Departures met"),
    "kpi.ev_departures_met_causal": ("Salidas atendidas (causal)", "Departures met (causal)"),
    "kpi.appliance_cycles_served": ("Ciclos servidos", "Cycles served"),
    "kpi.composite_vs_bau": ("Compuesto", "Composite"),
    # who decides
    "controller.charge_on_arrival": ("Carga al llegar", "Charge on arrival"),
    "controller.business_as_usual": ("Práctica habitual (BAU)", "Business as usual (BAU)"),
    "controller.rule": ("Regla de reparto", "Spread rule"),
    "controller.random": ("Aleatorio", "Random"),
    "controller.independent_td3": ("TD3 independiente", "Independent TD3"),
    "controller.independent_sac": ("SAC independiente", "Independent SAC"),
    "controller.marlisa": ("MARLISA", "MARLISA"),
    "controller.mpc_forecast": ("MPC con pronóstico", "MPC, forecast"),
    "controller.mpc_perfect": ("MPC perfecto", "MPC, perfect"),
    "controller.optimum": ("Óptimo", "Optimum"),
    "controller.maddpg": ("MADDPG", "MADDPG"),
    "controller.cooperative_maddpg": ("MADDPG cooperativo", "Cooperative MADDPG"),
    "variant.broadcast": ("difusión", "broadcast"),
    "variant.none": ("local", "local"),
    "variant.attention": ("atención", "attention"),
    "variant.mean_field": ("campo medio", "mean field"),
    # where and when it is measured
    "split.train": ("Entrenamiento", "Training"),
    "split.validation": ("Validación", "Validation"),
    "split.test": ("Prueba", "Test"),
    "split.year": ("Año", "Year"),
    "engine.citylearn": ("CityLearn", "CityLearn"),
    "engine.model": ("Modelo rápido", "Fast model"),
    "edition.official": ("oficial", "official"),
    "edition.offline": ("sin conexión", "offline"),
}


def use(language: str) -> None:
    """Choose the language of everything printed from here on.

    Raises:
        ValueError: the language is neither ``es`` nor ``en``.
    """
    global _language
    if language not in LANGUAGES:
        raise ValueError(f"unknown language {language!r}: use one of {', '.join(LANGUAGES)}")
    _language = language


def language() -> str:
    """The language in use, ``es`` or ``en``."""
    return _language


def t(key: str, **values: object) -> str:
    """The text behind a key in the language in use, with ``{name}`` fields filled from ``values``.

    Numbers among the values are to be formatted beforehand with ``number``.

    Raises:
        ValueError: no such key, or a field of the text was given no value.
    """
    if key not in TEXT:
        raise ValueError(f"no label {key!r}: add it to thesis_lib/analysis/labels.py in both languages")
    text = TEXT[key][LANGUAGES.index(_language)]
    try:
        return text.format(**values) if values or "{" in text else text
    except KeyError as missing:
        raise ValueError(f"label {key!r} needs a value for {missing}") from None


def _choose(es: str, en: str) -> str:
    return es if _language == "es" else en


def number(value: float, digits: int | None = 2, *, sign: bool = False) -> str:
    """A number as the language writes it; ``digits=None`` keeps what is significant (for axis ticks).

    The minus is the typographic one; thousands are grouped from five figures on in Spanish (RAE), from
    four in English. NaN becomes a dash.
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{abs(value):,.{digits}f}" if digits is not None else f"{abs(value):,.10g}"
    whole, point, fraction = text.partition(".")
    if _language == "es":
        whole = whole.replace(",", "" if len(whole) == 5 else "\u202f")
    text = whole + (_choose(",", ".") + fraction if point else "")
    zero = not any(digit in "123456789" for digit in text)
    if value < 0 and not zero:
        return "−" + text
    return "+" + text if sign and not zero else text


def percent(ratio: float, digits: int = 0, *, sign: bool = False) -> str:
    """A ratio as a percentage: 0.873 -> ``87 %`` in Spanish, ``87%`` in English."""
    return number(100 * ratio, digits, sign=sign) + _choose("\u202f%", "%")


def interval(mean: float, half: float | None, digits: int = 2) -> str:
    """``mean ± half`` with the digits asked for; the mean alone where there is no half width."""
    if half is None or math.isnan(half):
        return number(mean, digits)
    return f"{number(mean, digits)} ± {number(half, digits)}"


def formatter(digits: int | None = None, *, as_percent: bool = False) -> FuncFormatter:
    """Tick formatter of the language in use when the figure is made, independent of any locale."""
    chosen = _language

    def write(value: float, _position: int | None = None) -> str:
        before = language()
        use(chosen)
        try:
            if as_percent:
                return percent(value, digits or 0)
            return number(round(value, 12), digits)
        finally:
            use(before)

    return FuncFormatter(write)


UNITS = {"EUR": "€", "kg": "kg CO₂", "1": "–"}


def unit(name: str) -> str:
    """A unit of ``kpis.csv`` as printed: ``EUR`` -> €, ``kg`` -> kg CO₂, ``1`` -> – (a ratio)."""
    return UNITS.get(str(name), str(name))


def axis(key: str, unit_text: str) -> str:
    """An axis label with its unit in brackets; ``unit_text`` is printed through ``unit``."""
    return f"{t(key)} ({unit(unit_text)})"


def kpi(name: str) -> str:
    """A KPI's printed name."""
    return t(f"kpi.{name}")


def split(name: str) -> str:
    """A split's printed name."""
    return t(f"split.{name}")


def controller(name: str, variant: str | None = None) -> str:
    """A controller's printed name, with its variant in brackets unless that is ``default``."""
    shown = t(f"controller.{name}") if f"controller.{name}" in TEXT else name.replace("_", " ")
    if variant in (None, "", "default"):
        return shown
    key = f"variant.{variant}"
    return f"{shown} ({t(key) if key in TEXT else str(variant).replace('_', ' ')})"


def column_names(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with each column ``x`` that has a label ``table.x`` renamed to it."""
    return frame.rename(columns=lambda name: t(f"table.{name}") if f"table.{name}" in TEXT else name)
