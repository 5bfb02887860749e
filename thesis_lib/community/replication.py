"""A community of another size: the first homes of the data set, or the data set's homes again and again.

For questions of scale only. A copy has its home's devices, sun and driving; its load is that of another home, moved
by whole days within the block of rows that is train, validation or test, so that nothing crosses from one to another.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from thesis_lib.community.kpis import Service
from thesis_lib.community.reading import APPLIANCE_FIELDS, CHARGER_FIELDS, Array, Reading
from thesis_lib.community.splits import HOURS_PER_DAY, SPLITS, blocks

OF_CHARGERS = ("connected", "departure", "required_soc", "incoming", "arrival", "arrival_soc")
OF_CARS = ("keep", "floor", "forced")


def replicated(reading: Reading, service: Service, homes: int) -> tuple[Reading, Service]:
    """Make a community of ``homes`` homes out of one of H.

    Home number p is a copy of the data set's home p modulo H; the copies of one round share a number. The cars of a
    round that is not whole are those that its chargers ever see.

    Args:
        reading: the data set's community, hourly.
        service: what it owes its people.
        homes: how many, at least 1.

    Returns:
        The community to build a `Community` from, and what that one owes. With ``homes`` = H both are as given.

    Raises:
        ValueError: fewer than one home, or rows of another length than an hour.
    """
    if homes < 1:
        raise ValueError(f"a community needs at least one home, not {homes}")
    if reading.seconds != 3600:
        raise ValueError("only hourly communities are replicated")
    own = len(reading.homes)
    rounds, home = np.divmod(np.arange(homes), own)
    chargers = _copies(reading.charger["home"], homes, own)
    appliances = _copies(reading.appliance["home"], homes, own)
    held = reading.indices["car"]  # (T, C), V where there is none
    cars = sorted({(r, int(v)) for r, c in chargers for v in np.unique(held[:, c]) if v < len(reading.cars)})
    whole = range(homes // own)
    cars = sorted({*cars, *((r, v) for r in whole for v in range(len(reading.cars)))})

    h, c, v, a = home, *(np.array([old for _, old in pairs], dtype=int) for pairs in (chargers, cars, appliances))
    # Round by round, where an old number went; what a round does not have goes to "none", the last place.
    at_charger, at_car = _numbers(chargers, len(reading.chargers)), _numbers(cars, len(reading.cars))
    storage = np.concatenate([h, own + v])
    names = _renamed(reading, rounds, home)
    new = replace(
        reading,
        homes=[_name(reading.homes[i], r) for r, i in zip(rounds, home, strict=True)],
        chargers=[_name(reading.chargers[i], r) for r, i in chargers],
        cars=[_name(reading.cars[i], r) for r, i in cars],
        appliances=[_name(reading.appliances[i], r) for r, i in appliances],
        observation_names=names[0],
        action_names=names[1],
        action_low=[reading.action_low[i] for i in home],
        action_high=[reading.action_high[i] for i in home],
        storage={key: values[storage] for key, values in reading.storage.items()},
        power_curve=[reading.power_curve[i] for i in storage],
        efficiency_curve=[reading.efficiency_curve[i] for i in storage],
        charger={key: values[c] for key, values in reading.charger.items()}
        | {"home": np.array([r * own + reading.charger["home"][i] for r, i in chargers], dtype=int)},
        appliance={key: values[a] for key, values in reading.appliance.items()}
        | {"home": np.array([r * own + reading.appliance["home"][i] for r, i in appliances], dtype=int)},
        blocks=reading.blocks
        | {"load": _loads(reading.blocks["load"], rounds, home), "pv": reading.blocks["pv"][:, h]}
        | {key: reading.blocks[key][:, c] for key in OF_CHARGERS}
        | {key: reading.blocks[key][:, v] for key in OF_CARS},
        indices={
            "charger": _followed(reading.indices["charger"], cars, at_charger, len(chargers)),
            "car": _followed(held, chargers, at_car, len(cars)),
            "drift": reading.indices["drift"][:, v],
        },
        start_soc=reading.start_soc[:, v],
        price_column=reading.price_column[h],
        carbon_column=reading.carbon_column[h],
        exogenous={
            (place, name): source
            for place, i in enumerate(home)
            for (owner, name), source in reading.exogenous.items()
            if owner == i
        },
    )
    return new, _owed(service, chargers, cars, appliances, h, own)


def _copies(owner: Array, homes: int, own: int) -> list[tuple[int, int]]:
    """(round, old number) of the devices of the first ``homes`` homes; ``owner`` is each old one's home."""
    rounds = range(-(-homes // own))
    return [(r, i) for r in rounds for i, home in enumerate(owner) if r * own + home < homes]


def _numbers(pairs: list[tuple[int, int]], old: int) -> dict[int, Array]:
    """Round -> new number of each of the ``old`` ones; the last is "none", and so is what the round does not have."""
    numbers = {r: np.full(old + 1, len(pairs)) for r, _ in pairs}
    for new, (r, i) in enumerate(pairs):
        numbers[r][i] = new
    return numbers


def _followed(where: Array, pairs: list[tuple[int, int]], numbers: dict[int, Array], none: int) -> Array:
    """An index series of each pair, (T, pairs), pointing at the new numbers of its own round."""
    columns = [numbers[r][where[:, i]] if r in numbers else np.full(len(where), none) for r, i in pairs]
    return np.stack(columns, -1) if columns else np.zeros((len(where), 0), dtype=int)


def _loads(load: Array, rounds: Array, home: Array) -> Array:
    """(T, homes): in round r the load of the home r places further, r days later within its block."""
    rows, own = load.shape
    columns = []
    for r, i in zip(rounds, home, strict=True):
        source = np.arange(rows)
        for split in SPLITS:
            for start, stop in blocks(split, rows):
                days = (stop - start) // HOURS_PER_DAY * HOURS_PER_DAY
                source[start : start + days] = start + (np.arange(days) + r * HOURS_PER_DAY) % max(days, 1)
        columns.append(load[source, (i + r) % own])
    return np.stack(columns, -1)


def _name(name: str, number: int) -> str:
    return f"{name}_copy_{number}" if number else name


def _renamed(reading: Reading, rounds: Array, home: Array) -> tuple[list[list[str]], list[list[str]]]:
    """Observation and action names of each home, with its own chargers' and appliances' names in them."""
    seen: list[list[str]] = []
    done: list[list[str]] = []
    for r, i in zip(rounds, home, strict=True):
        renamed: dict[str, str] = {}
        for charger, owner in zip(reading.chargers, reading.charger["home"], strict=True):
            patterns = [*CHARGER_FIELDS, "electric_vehicle_storage_{}"] if owner == i else []
            renamed |= {pattern.format(charger): pattern.format(_name(charger, r)) for pattern in patterns}
        for appliance, owner in zip(reading.appliances, reading.appliance["home"], strict=True):
            first = "deferrable_appliance_"
            patterns = [first + "{}", *(first + "{}_" + field for field in APPLIANCE_FIELDS)] if owner == i else []
            renamed |= {pattern.format(appliance): pattern.format(_name(appliance, r)) for pattern in patterns}
        for names, new in ((reading.observation_names[i], seen), (reading.action_names[i], done)):
            new.append([renamed[name] if name in renamed else name for name in names])
    return seen, done


def _owed(
    service: Service,
    chargers: list[tuple[int, int]],
    cars: list[tuple[int, int]],
    appliances: list[tuple[int, int]],
    home: Array,
    own: int,
) -> Service:
    """What the copies are owed: the same sessions and cycles round by round, renumbered."""
    charger, car, appliance = ({pair: new for new, pair in enumerate(pairs)} for pairs in (chargers, cars, appliances))
    sessions, cycles = [], []
    for r in range(-(-len(home) // own)):
        table = service.sessions[[(r, i) in charger for i in service.sessions.charger]]
        moved = {
            "home": table.home + r * own,
            "charger": [charger[r, i] for i in table.charger],
            "car": [car[r, i] for i in table.car],
        }
        sessions.append(table.assign(**moved))
        table = service.cycles[[(r, i) in appliance for i in service.cycles.appliance]]
        cycles.append(table.assign(appliance=[appliance[r, i] for i in table.appliance]))
    of_charger, of_car = ([i for _, i in pairs] for pairs in (chargers, cars))
    return replace(
        service,
        sessions=pd.concat(sessions, ignore_index=True),
        cycles=pd.concat(cycles, ignore_index=True),
        battery_capacity=service.battery_capacity[home],
        charger_power=service.charger_power[of_charger],
        charger_power_min=service.charger_power_min[of_charger],
        charger_curve=[service.charger_curve[i] for i in of_charger],
        car_capacity=service.car_capacity[of_car],
        car_power=service.car_power[of_car],
        car_power_curve=[service.car_power_curve[i] for i in of_car],
        car_efficiency_curve=[service.car_efficiency_curve[i] for i in of_car],
    )
