"""The community as a linear programme: what `mpc` re-solves every hour and `analysis.optimum` solves for the year.

The objective is the composite of docs/protocol.md over the hours of a window. CityLearn's physics is bent in four
places to be linear, and nowhere else:

- a storage has one efficiency for charging and one for discharging, whatever the power (`Devices`);
- charging and discharging in the same hour are not excluded;
- nothing is known of the least power of a charger, below which nothing flows;
- an appliance may be started in parts, unless the caller fixes its start.

Everything else is kept: power and energy limits, the battery's limit that falls as it fills, imports clipped home by
home for cost and emissions and once for the district, upward ramps, the peak of each calendar day.

Shapes: K hours of the window, H homes, C chargers, D days touched by the window, Y possible starts of appliances.
Energies in kWh per step; with steps of an hour that is kW.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import highspy
import numpy as np
import torch
from numpy.typing import NDArray

from thesis_lib.community.kpis import WEIGHTS
from thesis_lib.community.model import Community

Array = NDArray[Any]
CURVE_POINTS = 1001
MISSING_PRICE = 100.0  # of a kWh that a departure lacks, in mean prices of a kWh: dearer than anything it could save
TIE = 1e-3  # of a mean price of a kWh: what moving a kWh costs at most, so that equal plans are not equal


class SolverError(RuntimeError):
    """The solver came to no optimum; its text is one line with the solver's own word for why."""


@dataclass(frozen=True)
class Devices:
    """Constants of the storages, (H,) or (C,): powers in kWh per step at the meter, capacities in kWh.

    ``charge_kept``: kWh stored of a kWh taken from the home; ``discharge_kept``: kWh delivered of a kWh taken out
    of the store. A charger's are those of charger and car together.
    """

    battery_power: Array
    battery_capacity: Array
    battery_floor: Array
    battery_charge_kept: Array
    battery_discharge_kept: Array
    limit_intercept: Array  # (H,) kWh per step: charging + discharging <= intercept + slope * stored energy
    limit_slope: Array  # (H,) 1
    charge_power: Array
    discharge_power: Array
    car_capacity: Array
    car_floor: Array
    car_charge_kept: Array
    car_discharge_kept: Array
    charger_home: Array
    appliance_home: Array


def devices(community: Community, share: float | None = 0.4) -> Devices:
    """Read the storages off a community, a charger with the first car it ever holds.

    Args:
        community: of H homes and C chargers.
        share: of its largest power, at which a storage's efficiency is taken; None takes the best efficiency it
            has at any power it can reach, which makes the programme a relaxation.

    Returns:
        The constants.

    Source:
        CityLearn 3.0.2 `Battery.charge`, `Charger.update_connected_electric_vehicle_soc`.
    """
    c = community
    grid = torch.linspace(0, 1, CURVE_POINTS, dtype=torch.float64)
    on_all = grid.to(c.dtype).unsqueeze(1).expand(-1, c.homes + c.cars)
    efficiency, limit = (curve(on_all).double().cpu().numpy() for curve in (c.efficiency_curve, c.power_curve))
    leg = np.sqrt(np.clip(efficiency, 0.0, 1.0))  # (points, N) over power / nominal power

    def number(values: torch.Tensor) -> Array:
        return values.double().cpu().numpy()

    power, capacity, floor = (number(getattr(c, f"storage_{n}")) for n in ("power", "capacity", "minimum_soc"))
    power = power * c.hours

    def kept(storage: Array, largest: Array) -> Array:
        """Of one leg, (n,): at ``share`` of the largest power, or the best up to it."""
        pairs = list(zip(storage, np.clip(largest / power[storage], 0.0, 1.0), strict=True))
        if share is not None:
            return np.array([np.interp(share * r, grid.numpy(), leg[:, s]) for s, r in pairs])
        return np.array([leg[grid.numpy() <= r + 1e-9, s].max() for s, r in pairs])

    homes, cars = np.arange(c.homes), c.homes + c.charger_car.cpu().numpy()
    full = power[homes]
    # The last, steepest part of the curve "largest power over SOC", as a line; the rest is the bound of the column.
    slope = (limit[-1, homes] - limit[-2, homes]) * (CURVE_POINTS - 1)
    link = number(c.charger_efficiency)
    charge, discharge = number(c.charger_charge_max) * c.hours, number(c.charger_discharge_max) * c.hours
    active = c.charger_slot.cpu().numpy() >= 0
    feeds = c.action_low[c.charger_home, c.charger_slot].cpu().numpy() < 0
    return Devices(
        battery_power=number(c.battery_energy) * limit.max(0)[homes],
        battery_capacity=capacity[homes],
        battery_floor=floor[homes] * capacity[homes],
        battery_charge_kept=kept(homes, full),
        battery_discharge_kept=kept(homes, full),
        limit_intercept=full * (limit[-1, homes] - slope),
        limit_slope=full * slope / capacity[homes],
        charge_power=np.where(active, charge, 0.0),
        discharge_power=np.where(active & feeds, discharge, 0.0),
        car_capacity=capacity[cars],
        car_floor=floor[cars] * capacity[cars],
        car_charge_kept=link * kept(cars, charge * link),
        car_discharge_kept=link * kept(cars, discharge / link),
        charger_home=c.charger_home.cpu().numpy(),
        appliance_home=c.appliance_home.cpu().numpy(),
    )


@dataclass(frozen=True)
class Start:
    """A possible start of an appliance's cycle: in hour ``hour`` of the window, using ``profile`` kWh from there on.

    Starts with the same ``cycle`` exclude each other, and together they make one.
    """

    appliance: int
    cycle: int
    hour: int
    profile: Array


@dataclass(frozen=True)
class Window:
    """K hours to plan, with what is known at their beginning."""

    net: Array  # (K, H) kWh, load less PV
    price: Array  # (K, H) EUR/kWh
    carbon: Array  # (K, H) kg/kWh
    day: Array  # (K,) number of the calendar day
    plugged: Array  # (K, C) bool
    idle: Array  # (C,) bool, chargers that do nothing in the first hour
    origin: Array  # (K, C) hour whose end a car's energy comes from: -1 for ``car_energy``, -2 for none
    factor: Array  # (K, C) share of that energy that is left, at most
    given: Array  # (K, C) kWh that the car brings besides
    at_most: Array  # (K, C) bool: that is the most it may hold, it may hold less
    need: Array  # (K, C) kWh the car must hold after the hour, 0 for nothing
    battery_energy: Array | None  # (H,) kWh before the first hour; None: to be chosen
    car_energy: Array  # (C,) kWh before the first hour, of cars with origin -1
    previous: float | None  # kWh, the district's net before the first hour; None: to be chosen
    peak: float  # kWh, the first day's peak so far; -inf for none
    counted: Array | None = None  # (K,) bool, hours whose terms count; None: all
    tie: float = TIE
    starts: list[Start] = field(default_factory=list)
    car_worth: float = 0.0  # objective per kWh that a car lacks of car_wanted after the last hour
    car_wanted: Array | None = None  # (C,) kWh


@dataclass(frozen=True)
class Plan:
    """The answer, kWh per step at the meter: a programme's columns by name."""

    objective: float
    battery: Array  # (K, H) net into the battery
    battery_energy: Array  # (K, H) after the hour
    chargers: Array  # (K, C) net into the car
    car_energy: Array  # (K, C) after the hour
    district: Array  # (K,)
    imported: Array  # (K, H) each home's
    lacking: Array  # (K, C) kWh that departures lack
    starts: Array  # (Y,) share of each possible start


class Programme:
    """Columns and rows of one window, as HiGHS takes them."""

    def __init__(self, devices: Devices, window: Window, scale: dict[str, float]) -> None:
        """``scale``: what a unit of each term of the composite is divided by, see `kpis.reward_scale`."""
        self.devices, self.window = devices, window
        d, w = devices, window
        hours, homes = w.net.shape
        chargers = w.plugged.shape[1]
        self.shape = hours, homes, chargers
        days, day = np.unique(w.day, return_inverse=True)
        weight = {term: share / scale[term] for term, share in WEIGHTS.items()}
        buy = weight["cost"] * w.price + weight["emissions"] * w.carbon
        unit = float(buy.mean()) + weight["import"]
        counted = np.ones(hours) if w.counted is None else w.counted.astype(float)
        day_counted = np.zeros(len(days))
        np.maximum.at(day_counted, day, counted)
        # Ties: no two columns cost quite the same, so that one plan is the best and noise does not choose among many.
        tie, tie_back, tie_car, tie_car_back = (
            unit * w.tie * self._shares(hours, n, salt) for n in (homes, chargers) for salt in (0.0, 0.5)
        )
        self.unit = unit

        self.cost: list[Array] = []
        self.low: list[Array] = []
        self.high: list[Array] = []
        self.columns = 0
        self.column_blocks: dict[str, Array] = {}
        inf = np.inf
        plugged = np.where(w.plugged, 1.0, 0.0)
        usable = plugged.copy()
        usable[0, w.idle] = 0.0
        self.charge = self._columns("charge", tie, 0.0, np.broadcast_to(d.battery_power, (hours, homes)))
        self.discharge = self._columns("discharge", tie_back, 0.0, np.broadcast_to(d.battery_power, (hours, homes)))
        self.stored = self._columns("stored", np.zeros((hours, homes)), d.battery_floor, d.battery_capacity)
        self.bought = self._columns("bought", buy * counted[:, None], 0.0, inf)
        self.draw = self._columns("draw", tie_car, 0.0, usable * d.charge_power)
        self.feed = self._columns("feed", tie_car_back, 0.0, usable * d.discharge_power)
        self.held = self._columns("held", np.zeros((hours, chargers)), plugged * d.car_floor, d.car_capacity)
        dear = np.full((hours, chargers), MISSING_PRICE * unit)
        self.lack = self._columns("lack", dear, 0.0, np.where(w.need > 0, inf, 0.0))
        self.short = self._columns("short", np.full(chargers, w.car_worth), 0.0, inf)
        self.district = self._columns("district", np.zeros(hours), -inf, inf)
        self.imported = self._columns("imported", weight["import"] * counted, 0.0, inf)
        self.rise = self._columns("rise", weight["ramping"] * counted, 0.0, inf)
        floor = np.full(len(days), -inf)
        floor[0] = w.peak
        self.peak = self._columns("peak", weight["daily_peak"] * day_counted, floor, inf)
        chosen = homes if w.battery_energy is None else 0
        self.first = self._columns("first", np.zeros(chosen), d.battery_floor[:chosen], d.battery_capacity[:chosen])
        self.before = self._columns("before", np.zeros(1 if w.previous is None else 0), -inf, inf)
        self.start = self._columns("start", unit * w.tie * np.arange(len(w.starts)), 0.0, 1.0)

        self.entries: list[tuple[Array, Array, Array]] = []
        self.row_low: list[Array] = []
        self.row_high: list[Array] = []
        self.rows = 0
        self.row_blocks: dict[str, Array] = {}
        self._storages(w, d)
        self._cars(w, d)
        self._meters(w, d, day)
        self._starts(w)

    @staticmethod
    def _shares(hours: int, devices: int, salt: float) -> Array:
        """Numbers (hours, devices) between a half and 1, no sum of some equal to a sum of others (golden ratio)."""
        product = np.outer(np.arange(1, hours + 1), np.arange(1, devices + 1)) + salt
        return 0.5 + 0.5 * (product * (np.sqrt(5) - 1) / 2 % 1)

    def _columns(self, name: str, cost: Array, low: Any, high: Any) -> Array:
        index = np.arange(self.columns, self.columns + cost.size).reshape(cost.shape)
        self.columns += cost.size
        self.column_blocks[name] = index
        for kept, values in ((self.cost, cost), (self.low, low), (self.high, high)):
            kept.append(np.broadcast_to(np.asarray(values, float), cost.shape).ravel())
        return index

    def _rows(self, name: str, low: Any, high: Any, *terms: tuple[Array, Any], shape: tuple[int, ...]) -> Array:
        """Rows low <= sum of coefficient * column <= high; terms are (columns, coefficients), both of ``shape``."""
        index = np.arange(self.rows, self.rows + int(np.prod(shape))).reshape(shape)
        self.rows += index.size
        self.row_blocks[name] = index
        self.row_low.append(np.broadcast_to(np.asarray(low, float), shape).ravel())
        self.row_high.append(np.broadcast_to(np.asarray(high, float), shape).ravel())
        for columns, coefficients in terms:
            self._add(index, columns, coefficients)
        return index

    def _add(self, rows: Array, columns: Array, coefficients: Any) -> None:
        self.entries.append(
            (rows.ravel(), columns.ravel(), np.broadcast_to(np.asarray(coefficients, float), rows.shape).ravel())
        )

    def _storages(self, w: Window, d: Devices) -> None:
        """Stored energy follows what goes in and out; power falls as the battery fills."""
        hours, homes, _ = self.shape
        given = np.zeros((hours, homes))
        if w.battery_energy is not None:
            given[0] = w.battery_energy
        rows = self._rows(
            "battery",
            given,
            given,
            (self.stored, 1.0),
            (self.charge, -d.battery_charge_kept),
            (self.discharge, 1.0 / d.battery_discharge_kept),
            shape=(hours, homes),
        )
        self._add(rows[1:], self.stored[:-1], -1.0)
        limit = np.broadcast_to(d.limit_intercept, (hours, homes)) + d.limit_slope * given
        limits = self._rows("limit", -np.inf, limit, (self.charge, 1.0), (self.discharge, 1.0), shape=(hours, homes))
        self._add(limits[1:], self.stored[:-1], np.broadcast_to(-d.limit_slope, (hours - 1, homes)))
        if w.battery_energy is None:
            self._add(rows[0], self.first, -1.0)
            self._add(limits[0], self.first, -d.limit_slope)

    def _cars(self, w: Window, d: Devices) -> None:
        """A car's energy follows from its origin, what is drawn and what is fed back; need and worth at the end."""
        hours, _, chargers = self.shape
        given = w.given + np.where(w.origin == -1, w.factor * w.car_energy, 0.0)
        low = np.where(w.plugged & ~w.at_most, given, -np.inf)
        rows = self._rows(
            "car",
            low,
            np.where(w.plugged, given, np.inf),
            (self.held, 1.0),
            (self.draw, -d.car_charge_kept),
            (self.feed, 1.0 / d.car_discharge_kept),
            shape=(hours, chargers),
        )
        hour, charger = np.nonzero(w.plugged & (w.origin >= 0))
        self._add(rows[hour, charger], self.held[w.origin[hour, charger], charger], -w.factor[hour, charger])
        need = np.where(w.need > 0, w.need, -np.inf)
        self._rows("need", need, np.inf, (self.held, 1.0), (self.lack, 1.0), shape=(hours, chargers))
        wanted = np.zeros(chargers) if w.car_wanted is None else w.car_wanted
        self._rows("wanted", wanted, np.inf, (self.held[-1], 1.0), (self.short, 1.0), shape=(chargers,))

    def _meters(self, w: Window, d: Devices, day: Array) -> None:
        """Imports of homes and district, ramps and peaks."""
        hours, homes, chargers = self.shape
        at_homes = self._rows(
            "home", w.net, np.inf, (self.bought, 1.0), (self.charge, -1.0), (self.discharge, 1.0), shape=(hours, homes)
        )
        total = w.net.sum(1)
        district = self._rows("district", total, total, (self.district, 1.0), shape=(hours,))
        across = np.broadcast_to(district[:, None], (hours, homes))
        self._add(across, self.charge, -1.0)
        self._add(across, self.discharge, 1.0)
        across = np.broadcast_to(district[:, None], (hours, chargers))
        for columns, sign in ((self.draw, -1.0), (self.feed, 1.0)):
            self._add(at_homes[:, d.charger_home], columns, sign)
            self._add(across, columns, sign)
        for y, start in enumerate(w.starts):
            until = min(len(start.profile), hours - start.hour)
            span = np.arange(start.hour, start.hour + until)
            column = np.full(until, self.start[y])
            self._add(at_homes[span, d.appliance_home[start.appliance]], column, -start.profile[:until])
            self._add(district[span], column, -start.profile[:until])
        self._rows("import", 0.0, np.inf, (self.imported, 1.0), (self.district, -1.0), shape=(hours,))
        self._rows("peak", 0.0, np.inf, (self.peak[day], 1.0), (self.district, -1.0), shape=(hours,))
        low = np.zeros(hours)
        low[0] = 0.0 if w.previous is None else -w.previous
        rows = self._rows("rise", low, np.inf, (self.rise, 1.0), (self.district, -1.0), shape=(hours,))
        self._add(rows[1:], self.district[:-1], 1.0)
        if w.previous is None:
            self._add(rows[:1], self.before, 1.0)

    def _starts(self, w: Window) -> None:
        """Each cycle is started once."""
        cycles: dict[tuple[int, int], list[int]] = {}
        for y, start in enumerate(w.starts):
            cycles.setdefault((start.appliance, start.cycle), []).append(y)
        for (appliance, cycle), places in cycles.items():
            row = self._rows(f"start {appliance} {cycle}", 1.0, 1.0, shape=(1,))
            self._add(np.broadcast_to(row, (len(places),)), self.start[places], 1.0)

    def pass_to(self, solver: highspy.Highs) -> None:
        """Hand the programme over; what the solver had before is forgotten."""
        rows, columns, values = (np.concatenate(part) for part in zip(*self.entries, strict=True))
        order = np.argsort(columns, kind="stable")
        begins = np.zeros(self.columns + 1, np.int32)
        np.cumsum(np.bincount(columns, minlength=self.columns), out=begins[1:])
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = self.columns, self.rows
        lp.col_cost_ = np.concatenate(self.cost) / self.unit  # near 1, where the solver's tolerances mean something
        lp.col_lower_, lp.col_upper_ = np.concatenate(self.low), np.concatenate(self.high)
        lp.row_lower_, lp.row_upper_ = np.concatenate(self.row_low), np.concatenate(self.row_high)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.num_col_, lp.a_matrix_.num_row_ = self.columns, self.rows
        lp.a_matrix_.start_ = begins
        lp.a_matrix_.index_ = rows[order].astype(np.int32)
        lp.a_matrix_.value_ = values[order]
        if solver.passModel(lp) == highspy.HighsStatus.kError:
            raise SolverError("HiGHS refuses the programme: a coefficient is not a number or a bound is crossed")

    def begin_from(self, solver: highspy.Highs, earlier: Programme, basis: Any) -> None:
        """Begin the simplex from the basis of the programme of one hour earlier, moved by an hour."""
        status = highspy.HighsBasisStatus
        columns = np.full(self.columns, status.kLower, dtype=object)
        rows = np.full(self.rows, status.kBasic, dtype=object)
        for mine, theirs, to, values in (
            (self.column_blocks, earlier.column_blocks, columns, np.array(basis.col_status, dtype=object)),
            (self.row_blocks, earlier.row_blocks, rows, np.array(basis.row_status, dtype=object)),
        ):
            for name, places in mine.items():
                if name in theirs and theirs[name].shape == places.shape:
                    to[places] = values[theirs[name]]
                    if len(places) == self.shape[0]:
                        to[places[:-1]] = values[theirs[name][1:]]
        moved = highspy.HighsBasis()
        moved.col_status, moved.row_status = columns.tolist(), rows.tolist()
        moved.valid = moved.alien = True  # alien: it need not be regular, HiGHS repairs it
        if solver.setBasis(moved) == highspy.HighsStatus.kError:
            raise SolverError("HiGHS refuses the basis of the hour before")

    def read(self, solver: highspy.Highs) -> Plan:
        """The plan in the solver's columns."""
        x = np.asarray(solver.getSolution().col_value)
        return Plan(
            objective=float(solver.getInfo().objective_function_value) * self.unit,
            battery=x[self.charge] - x[self.discharge],
            battery_energy=x[self.stored],
            chargers=x[self.draw] - x[self.feed],
            car_energy=x[self.held],
            district=x[self.district],
            imported=x[self.bought],
            lacking=x[self.lack],
            starts=x[self.start],
        )


def solver(**options: Any) -> highspy.Highs:
    """HiGHS on one thread, silent; ``options`` are its own."""
    highs = highspy.Highs()
    for name, value in {"output_flag": False, "threads": 1, **options}.items():
        if highs.setOptionValue(name, value) != highspy.HighsStatus.kOk:
            raise SolverError(f"HiGHS knows no option {name} = {value}")
    return highs


def run(highs: highspy.Highs) -> None:
    """Solve what was passed.

    Raises:
        SolverError: no optimum was found.
    """
    highs.run()
    status = highs.getModelStatus()
    if status != highspy.HighsModelStatus.kOptimal:
        raise SolverError(f"HiGHS found no optimum: {highs.modelStatusToString(status)}")
