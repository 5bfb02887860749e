"""Charging sessions and appliance cycles: read them from a community, fit their distributions, draw new ones.

A *session* is one stay of a car at its charger, from the first connected row to the last. A *trip* is what
lies between two sessions. The model behind :func:`fit` and :func:`draw_charger`, checked against the official
files in notebook 01:

* A car leaves once a day and comes back. The official sessions follow a weekly rhythm of five working days
  and two *rest days*, which are the days 0 and 1 of every seven (row // 24 % 7). On a rest day a car may stay
  at home.
* The hour of departure and the length of the trip are drawn together, one table for working days, one for
  rest days.
* The arrival SOC is drawn from deciles, by charger and kind of day; the SOC required at departure from its
  own table.
* A car that stays at home for a rest day hides its departure until midnight of the day on which it leaves;
  these are the stays of more than 24 hours, and no others.
* An appliance runs one cycle a day, in a window of one to five hours after midnight.

Only sums over many sessions are kept (``sessions.json``), no session of the official files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

REST_DAYS = (0, 1)  # day % 7, where day = row // 24
KINDS = ("working", "rest")
DECILES = np.linspace(0, 1, 11)
FIGURES = Path(__file__).with_name("sessions.json")
Figures = dict[str, Any]


def kind_of_day(day: int) -> str:
    """``rest`` or ``working``, for a day counted from row 0."""
    return "rest" if day % 7 in REST_DAYS else "working"


def read_sessions(schema: Path) -> pd.DataFrame:
    """Read every charging session of a community.

    Args:
        schema: a CityLearn 3 ``schema.json``; charger files beside it.

    Returns:
        One line per session, in the order of charger and time: ``home``, ``charger``, ``car``; ``arrival``
        (first connected row) and ``departure`` (first row without the car); ``arrival_soc`` (0-1, NaN if the
        file has none or the car is there from row 0); ``required_soc`` (0-1); ``hidden`` (connected hours in
        which the departure is not disclosed); ``announced`` (hours before the arrival in which the car is
        shown as incoming); ``complete`` (neither cut off by the first nor by the last row); ``trip`` (hours
        away before the arrival, NaN for a charger's first session).

    Source: ``citylearn.data.ChargerSimulation`` for the states (1 connected, 2 incoming, 3 away) and blanks.
    """
    description = json.loads(schema.read_text(encoding="utf-8"))
    rows = description["simulation_end_time_step"] + 1
    sessions = []
    for home, building in description["buildings"].items():
        for charger, entry in (building.get("chargers") or {}).items():
            table = pd.read_csv(schema.parent / entry["charger_simulation"], nrows=rows)
            state = table["electric_vehicle_charger_state"].to_numpy()
            cars = table["electric_vehicle_id"].to_list()
            countdown = table["electric_vehicle_departure_time"].to_numpy(dtype=float)
            required_soc = table["electric_vehicle_required_soc_departure"].to_numpy(dtype=float)
            arrival_soc = table["electric_vehicle_estimated_soc_arrival"].to_numpy(dtype=float)
            connected = state == 1
            # A countdown at 0 ends a session even when the next one follows without an hour away.
            begins = connected & np.r_[True, ~connected[:-1] | (countdown[:-1] == 0)]
            ends = connected & np.r_[~connected[1:] | (countdown[:-1] == 0), True]
            stays = zip(np.flatnonzero(begins).tolist(), (np.flatnonzero(ends) + 1).tolist(), strict=True)
            last = None
            for arrival, departure in stays:
                announced = 0
                while announced < arrival and state[arrival - announced - 1] == 2:
                    announced += 1
                soc = arrival_soc[arrival - 1] if announced else np.nan
                sessions.append(
                    {
                        "home": home,
                        "charger": charger,
                        "car": cars[arrival],
                        "arrival": arrival,
                        "departure": departure,
                        "arrival_soc": soc / 100,
                        "required_soc": required_soc[arrival] / 100,
                        "hidden": int(np.isnan(countdown[arrival:departure]).sum()),
                        "announced": announced,
                        "complete": bool(arrival > 0 and departure < rows),
                        "trip": np.nan if last is None else float(arrival - last),
                    }
                )
                last = departure
    return pd.DataFrame(sessions)


def read_cycles(schema: Path) -> pd.DataFrame:
    """Read every appliance cycle of a community.

    Returns:
        One line per cycle: ``home``, ``appliance``, ``earliest`` and ``latest`` start rows, ``deadline``
        (last row it may use), ``steps`` (hours), ``energy`` (kWh), ``profile`` (list of kWh per hour).

    Source: ``citylearn.data.DeferrableApplianceSimulation``.
    """
    cycles = []
    for home, building in json.loads(schema.read_text(encoding="utf-8"))["buildings"].items():
        for appliance, entry in (building.get("deferrable_appliances") or {}).items():
            catalogue = pd.read_csv(schema.parent / entry["cycle_profiles_file"])
            profiles = dict(zip(catalogue["profile_id"], catalogue["load_profile"], strict=True))
            schedule = pd.read_csv(schema.parent / entry["flexibility_schedule_file"])
            for cycle in schedule.to_dict("records"):
                profile = json.loads(profiles[cycle["profile_id"]])
                cycles.append(
                    {
                        "home": home,
                        "appliance": appliance,
                        "earliest": cycle["earliest_start_time_step"],
                        "latest": cycle["latest_start_time_step"],
                        "deadline": cycle["deadline_time_step"],
                        "steps": len(profile),
                        "energy": sum(profile),
                        "profile": profile,
                    }
                )
    return pd.DataFrame(cycles)


def fit(sessions: pd.DataFrame, cycles: pd.DataFrame) -> Figures:
    """Fit the distributions of the model above.

    Args:
        sessions: from :func:`read_sessions`.
        cycles: from :func:`read_cycles`.

    Returns:
        JSON-ready counts and deciles; the keys are explained in ``docs/dataset.md``.
    """
    trips = sessions[sessions["trip"] > 0]
    left = (trips["arrival"] - trips["trip"]).astype(int)
    kinds = [kind_of_day(row // 24) for row in left]
    trips = trips.assign(hour=left % 24, hours=trips["trip"].astype(int), kind=kinds)
    with_soc = trips[trips["arrival_soc"].notna()]
    required = (sessions["required_soc"] * 100).round()
    return {
        "trips": {
            kind: {
                str(hour): _counts(group["hours"])
                for hour, group in trips[trips["kind"] == kind].groupby("hour")
            }
            for kind in KINDS
        },
        "rest_days_at_home": {
            charger: _rest_days_at_home(group) for charger, group in sessions.groupby("charger", sort=False)
        },
        "arrival_soc_deciles": {
            charger: {kind: _deciles(group.loc[group["kind"] == kind, "arrival_soc"]) for kind in KINDS}
            for charger, group in with_soc.groupby("charger", sort=False)
        },
        "required_soc": {
            f"{low}-{high}": int(required.between(low, high).sum())
            for low, high in ((60, 79), (80, 90), (91, 100))
        },
        "announced_hours": _counts(trips["announced"]),
        "no_arrival_soc": int((trips["arrival_soc"].isna() & (trips["announced"] > 0)).sum()),
        "cycles": {
            "earliest_hour": _counts(cycles["earliest"] % 24),
            "window_and_steps": _counts(
                [
                    f"{w} {s}"
                    for w, s in zip(cycles["latest"] - cycles["earliest"], cycles["steps"], strict=True)
                ]
            ),
            "kwh_deciles": _deciles(np.concatenate(cycles["profile"].to_list())),
        },
    }


def draw_charger(figures: Figures, charger: str, rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw a year of sessions for one charger.

    Args:
        figures: from :func:`fit` or ``sessions.json``.
        charger: a name under ``arrival_soc_deciles``.
        rows: hours to cover, from row 0; the car is at home at row 0.
        rng: the only source of chance; the same state gives the same sessions.

    Returns:
        ``arrival`` and ``departure`` (rows; the last departure may lie past the end), ``arrival_soc`` and
        ``required_soc`` (whole percent; arrival NaN where the file is to have none), ``announced`` (hours),
        ``hidden`` (hours without a disclosed departure).
    """
    sessions = []
    arrival, soc, announced = 0, np.nan, 0
    at_home = [False, False]
    for day in range(rows // 24 + 14):
        kind = kind_of_day(day)
        if day % 7 == REST_DAYS[0]:
            at_home = [flag == "1" for flag in _draw(figures["rest_days_at_home"][charger], rng)]
        if kind == "rest" and at_home[REST_DAYS.index(day % 7)]:
            continue
        # Who comes back on one day leaves the next day at the same hour at the latest: no official stay of a
        # car that goes out every day is longer than 24 hours.
        latest = arrival + 24 if arrival % 24 and arrival // 24 == day - 1 else 24 * day + 23
        by_hour = {h: t for h, t in figures["trips"][kind].items() if 24 * day + int(h) <= latest}
        hour = _draw({h: sum(trips.values()) for h, trips in by_hour.items()}, rng)
        departure, hours = 24 * day + int(hour), int(_draw(by_hour[hour], rng))
        low, high = map(int, _draw(figures["required_soc"], rng).split("-"))
        sessions.append(
            {
                "arrival": arrival,
                "departure": departure,
                "arrival_soc": soc,
                "required_soc": low + int(rng.random() * (high - low + 1)),
                "announced": announced,
                "hidden": 24 * day - arrival if departure - arrival > 24 else 0,
            }
        )
        if departure >= rows:
            break
        arrival = departure + hours
        announced = min(int(_draw(figures["announced_hours"], rng)), hours)
        # CityLearn reads 1 as a fraction, a full battery: the lowest percentage that means what it says is 2.
        percent = max(
            2,
            round(
                100 * float(np.interp(rng.random(), DECILES, figures["arrival_soc_deciles"][charger][kind]))
            ),
        )
        total = sum(figures["announced_hours"].values())
        soc = np.nan if rng.random() < figures["no_arrival_soc"] / total or not announced else percent
        if arrival >= rows:
            break
    return pd.DataFrame(sessions)


def draw_cycles(figures: Figures, days: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw one appliance cycle a day.

    Returns:
        ``earliest``, ``latest``, ``deadline`` (rows), ``profile`` (list of kWh per hour, three decimals).
    """
    fitted = figures["cycles"]
    cycles = []
    for day in range(days):
        earliest = 24 * day + int(_draw(fitted["earliest_hour"], rng))
        window, steps = map(int, _draw(fitted["window_and_steps"], rng).split())
        profile = [
            round(float(np.interp(rng.random(), DECILES, fitted["kwh_deciles"])), 3) for _ in range(steps)
        ]
        latest = earliest + window
        cycles.append(
            {"earliest": earliest, "latest": latest, "deadline": latest + steps - 1, "profile": profile}
        )
    return pd.DataFrame(cycles)


def summary(sessions: pd.DataFrame, cycles: pd.DataFrame) -> pd.Series:
    """What two communities are compared by: means over a year, with the unit in the name."""
    complete = sessions[sessions["complete"]]
    trips = sessions[sessions["trip"] > 0]
    return pd.Series(
        {
            "sessions": len(sessions),
            "connected hours": (sessions["departure"] - sessions["arrival"]).sum(),
            "stay, mean (h)": (complete["departure"] - complete["arrival"]).mean(),
            "stays over 24 h": int((complete["departure"] - complete["arrival"] > 24).sum()),
            "sessions with hidden departure": int((complete["hidden"] > 0).sum()),
            "hours with hidden departure": int(sessions["hidden"].sum()),
            "trip, mean (h)": trips["trip"].mean(),
            "arrival hour, mean": (trips["arrival"] % 24).mean(),
            "departure hour, mean": (complete["departure"] % 24).mean(),
            "arrival SOC, mean (%)": 100 * sessions["arrival_soc"].mean(),
            "arrival SOC, standard deviation (%)": 100 * sessions["arrival_soc"].std(),
            "arrivals without SOC": int(trips["arrival_soc"].isna().sum()),
            "required SOC, mean (%)": 100 * sessions["required_soc"].mean(),
            "required above arrival, mean (%)": 100
            * (sessions["required_soc"] - sessions["arrival_soc"]).clip(lower=0).mean(),
            "hours announced, mean": trips["announced"].mean(),
            "appliance cycles": len(cycles),
            "cycle energy, mean (kWh)": cycles["energy"].mean(),
            "cycle energy, standard deviation (kWh)": cycles["energy"].std(),
            "cycle length, mean (h)": cycles["steps"].mean(),
        }
    )


def _rest_days_at_home(sessions: pd.DataFrame) -> dict[str, int]:
    """Weeks with a car at home on neither rest day (00), the first (10), the second (01), both (11)."""
    left = set(sessions["departure"] // 24)
    days = range(int(sessions["arrival"].min()) // 24, int(sessions["arrival"].max()) // 24)
    weeks = [day for day in days if day % 7 == REST_DAYS[0] and day + 1 in days]
    patterns = _counts(["".join("0" if day + k in left else "1" for k in (0, 1)) for day in weeks])
    return {pattern: patterns.get(pattern, 0) for pattern in ("00", "10", "01", "11")}


def _counts(values: Any) -> dict[str, int]:
    return {str(value): int(count) for value, count in pd.Series(values).value_counts().sort_index().items()}


def _deciles(values: Any) -> list[float]:
    return [round(float(value), 4) for value in np.quantile(np.asarray(values, dtype=float), DECILES)]


def _draw(counts: dict[str, int], rng: np.random.Generator) -> str:
    """One key, as likely as its count, by one uniform number: the stream is the same in every version."""
    position = rng.random() * sum(counts.values())
    for key, count in counts.items():
        position -= count
        if position < 0:
            return key
    return key
