"""The community's physics: a batched, differentiable twin of CityLearn 3.

One ``Community`` holds the constants and the year of data of H homes as tensors; ``step`` moves any number of
independent copies one hour, all homes, batteries and cars at once. It is the same arithmetic as CityLearn's
``Battery.charge``, ``Charger.update_connected_electric_vehicle_soc``, ``DeferrableAppliance.start_cycle`` and
``Building.update_variables``; in float64 it also repeats where CityLearn rounds to float32, so that the two agree to
the last bit of the stored state of charge. In float32 the rounding is the tensors' own.

Shapes: B copies, H homes, C chargers, V cars, A appliances, N = H + V storages (home batteries first, then cars),
S action slots per home, T rows of data. Energies are kWh per step, powers kW, states of charge fractions of capacity.
"""

from __future__ import annotations

import copy
import hashlib
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from thesis_lib.community.reading import Reading, read_environment

ZERO = 1e-6  # CityLearn's ZERO_DIVISION_PLACEHOLDER


class State(NamedTuple):
    """Where each copy stands at the beginning of a row, before it acts."""

    row: Tensor  # (B,) long, row of data
    end: Tensor  # (B,) long, first row that no longer belongs to the episode
    drift: Tensor  # (B,) long, how many drift draws came before the episode
    soc: Tensor  # (B, N) state of charge of home batteries, then cars
    capacity: Tensor  # (B, N) kWh left of each storage's capacity after degradation
    soc_before: Tensor  # (B, N) what CityLearn observes now: the SOC stored in the row before
    net: Tensor  # (B, H) kWh, each home's net consumption of the row before
    day_peak: Tensor  # (B,) kWh, highest district net of the day so far
    home_day_peak: Tensor  # (B, H) kWh, each home's own
    next_cycle: Tensor  # (B, A) long, first appliance cycle neither started nor missed
    last_cycle: Tensor  # (B, A) long, the cycle started last; before any, the one that never comes
    started_at: Tensor  # (B, A) long, the row in which it was started
    missed_cycle: Tensor  # (B, A) long, the first cycle missed, or -1


class Flows(NamedTuple):
    """What happened in a row. Energies in kWh, positive = consumed."""

    net: Tensor  # (B, H)
    battery: Tensor  # (B, H)
    chargers: Tensor  # (B, C)
    appliances: Tensor  # (B, A)
    cost: Tensor  # (B, H) EUR
    emissions: Tensor  # (B, H) kg CO2
    battery_soc: Tensor  # (B, H) after the action
    car_soc: Tensor  # (B, V) after the action
    started: Tensor  # (B, A) long, the appliance cycle started in this row, or -1


class Rows(NamedTuple):
    """Exogenous data of one row for each copy; leading dimensions are whatever rows were asked for."""

    load: Tensor  # (..., H) kWh
    pv: Tensor  # (..., H) kWh, >= 0
    calendar: Tensor  # (..., n) distinct observed columns
    weather: Tensor  # (..., n)
    market: Tensor  # (..., n) prices EUR/kWh and carbon kg/kWh
    connected: Tensor  # (..., C) 1 when a car is plugged in
    departure: Tensor  # (..., C) rows until it leaves, -1 unknown
    required_soc: Tensor  # (..., C)
    incoming: Tensor  # (..., C)
    arrival: Tensor  # (..., C)
    arrival_soc: Tensor  # (..., C)
    keep: Tensor  # (..., V) factor on the SOC on entering the next row
    floor: Tensor  # (..., V) least SOC then
    forced: Tensor  # (..., V) SOC written then, or -1
    charger: Tensor  # (..., V) long, the charger a car is at, C = none
    car: Tensor  # (..., C) long, the car at a charger, V = none
    drift: Tensor  # (..., V) long, number of the drift draw applied then, -1 = none
    alive: Tensor  # (..., A) long, the first appliance cycle whose latest start has not passed
    clock: Tensor  # (..., A) long, the row the appliances' schedules see


FLOATS, INDICES = Rows._fields[:14], Rows._fields[14:18]


def pick(chosen: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """``yes`` where ``chosen`` is 1, ``no`` where it is 0, exactly; several times faster than ``torch.where``."""
    return torch.lerp(no, yes, chosen)


class Curve:
    """Piecewise-linear curves, one per storage: y = intercept + slope * x + sum over kinks of bend * max(x - kink, 0).

    The first and last segments extend beyond the curve's ends, as in ``Battery.get_max_input_power``. Working with
    the few kinks is several times faster than gathering, for every storage, the segment it is on.
    """

    def __init__(self, curves: list[np.ndarray]) -> None:
        """``curves``: N arrays (2, points) with x ascending; they may differ in the number of points."""
        kinks = max((c.shape[1] for c in curves), default=2) - 2
        kink, bend = np.zeros((2, kinks, 1, len(curves)))
        slope, intercept = np.zeros((2, len(curves)))
        for n, (x, y) in enumerate(curves):
            slopes = np.diff(y) / np.diff(x)
            slope[n], intercept[n] = slopes[0], y[0] - slopes[0] * x[0]
            kink[: len(x) - 2, 0, n], bend[: len(x) - 2, 0, n] = x[1:-1], np.diff(slopes)
        self.intercept, self.slope = torch.tensor(intercept), torch.tensor(slope)  # (N,)
        self.kink, self.bend = torch.tensor(kink), torch.tensor(bend)  # (kinks, 1, N)

    def __call__(self, x: Tensor) -> Tensor:
        """Value at ``x`` (B, N) -> (B, N)."""
        y = torch.addcmul(self.intercept, self.slope, x)
        return y + ((x - self.kink).clamp_min(0.0) * self.bend).sum(0)


class Community:
    """One community as tensors: constants, a year of data, and the step that CityLearn would take.

    Built with ``Community.from_citylearn(env)``; never changed: ``to`` returns a moved copy. Home lists, names
    and their order are CityLearn's.
    """

    # What a controller may know of its community; storages are home batteries first, then cars.
    action_mask: Tensor  # (H, S) bool, which slots hold an action
    action_low: Tensor  # (H, S)
    action_high: Tensor  # (H, S)
    storage_capacity: Tensor  # (N,) kWh, new
    storage_power: Tensor  # (N,) kW
    storage_minimum_soc: Tensor  # (N,)
    storage_initial_soc: Tensor  # (N,)
    storage_fade: Tensor  # (N,) capacity lost per full cycle, as a fraction
    battery_energy: Tensor  # (H,) kWh per step at full action, 0 where the action is inactive
    always: Tensor  # (H,) ones: home batteries are never away
    battery_keep: Tensor  # (H,) what standby keeps of the SOC per step
    battery_slot: Tensor  # (H,) long, place in the flattened actions
    charger_home: Tensor  # (C,) long
    charger_slot: Tensor  # (C,) long, slot in its home
    charger_car: Tensor  # (C,) long, the first car ever plugged in
    charger_charge_max: Tensor  # (C,) kW
    charger_charge_min: Tensor  # (C,) kW, below it nothing happens
    charger_discharge_max: Tensor  # (C,) kW
    charger_discharge_min: Tensor  # (C,) kW
    charger_efficiency: Tensor  # (C,)
    charger_table: Tensor  # (C + 1, 6) charge and discharge max, their min, efficiency, 1; the last is none: 0
    charger_flat_slot: Tensor  # (C + 1,) long, place in the flattened actions
    appliance_home: Tensor  # (A,) long
    appliance_slot: Tensor  # (A,) long, slot in its home
    appliance_flat_slot: Tensor  # (A,) long
    appliance_trigger: Tensor  # (A,) an action above it starts a cycle
    appliance_index: Tensor  # (A,) long, 0 .. A - 1
    cycle_earliest: Tensor  # (A, cycles + 1) long, rows; the last cycle never comes
    cycle_latest: Tensor  # (A, cycles + 1) long
    cycle_deadline: Tensor  # (A, cycles + 1) long
    cycle_window: Tensor  # (A, cycles + 1, 3) long: earliest start, last start that meets the deadline, duration
    cycle_duration: Tensor  # (A, cycles + 1) long, steps
    cycle_energy: Tensor  # (A, cycles + 1) kWh
    cycle_priority: Tensor  # (A, cycles + 1)
    cycle_profile: Tensor  # (A, cycles + 1, longest + 1) kWh per step, ends with 0
    table: Tensor  # (T, width) the float fields of Rows side by side
    index_table: Tensor  # (T, 2 V + C + A) long, the index fields of Rows side by side
    start_soc: Tensor  # (T, V)
    drift_noise: Tensor  # (draws,)
    drift_base: Tensor  # (T,) long
    price_column: Tensor  # (H,) long, column of Rows.market
    carbon_column: Tensor  # (H,) long

    def __init__(
        self, reading: Reading, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
    ) -> None:
        self.home_names, self.charger_names = reading.homes, reading.chargers
        self.car_names, self.appliance_names = reading.cars, reading.appliances
        self.observation_names, self.action_names = reading.observation_names, reading.action_names
        self.homes, self.cars = len(reading.homes), len(reading.cars)
        self.chargers, self.appliances = len(reading.chargers), len(reading.appliances)
        self.slots = max(len(a) for a in reading.action_names)
        self.rows = len(reading.blocks["load"])
        self.hours = reading.seconds / 3600.0
        self.steps_per_day = round(24 / self.hours)
        self.load_to_observed, self.first_row = reading.load_to_observed, reading.first_row
        self.exogenous = reading.exogenous
        columns = (reading.price_column, reading.carbon_column)
        self.shared_column = [int(c[0]) if (c == c[0]).all() else None for c in columns]  # price, carbon

        def keep(name: str, values: Any, kind: torch.dtype = torch.float64) -> None:
            setattr(self, name, torch.as_tensor(np.asarray(values)).to(kind))

        def padded(lists: list[list[float]]) -> np.ndarray:
            return np.array([row + [0.0] * (self.slots - len(row)) for row in lists])

        keep("action_mask", padded([[1.0] * len(a) for a in reading.action_names]), torch.bool)
        keep("action_low", padded(reading.action_low))
        keep("action_high", padded(reading.action_high))
        # where each device reads its action among the home-by-slot ones; an inactive one reads any and heeds none
        flat = np.arange(self.homes) * self.slots
        active = np.array(["electrical_storage" in a for a in reading.action_names])
        own = [
            a.index("electrical_storage") if heeds else 0 for a, heeds in zip(reading.action_names, active, strict=True)
        ]
        keep("battery_slot", flat + np.array(own), torch.long)

        s = reading.storage
        for name in ("capacity", "power", "minimum_soc", "initial_soc", "fade"):
            keep(f"storage_{name}", s[name])
        keep("battery_energy", np.where(active, s["power"][: self.homes], 0.0) * self.hours)
        keep("battery_keep", s["keep"][: self.homes])
        self.batteries_lose = bool((s["keep"][: self.homes] < 1.0).any())
        self.power_curve, self.efficiency_curve = Curve(reading.power_curve), Curve(reading.efficiency_curve)

        c = reading.charger
        slot = flat[c["home"]] + c["slot"]
        for name in ("charge_max", "charge_min", "discharge_max", "discharge_min", "efficiency"):
            keep(f"charger_{name}", c[name])
        keep("charger_home", c["home"], torch.long)
        keep("charger_slot", c["slot"], torch.long)
        least = [np.minimum(c[f"{k}_min"], c[f"{k}_max"]).clip(0) for k in ("charge", "discharge")]
        here = np.ones(self.chargers)
        table = np.stack([c["charge_max"], c["discharge_max"], *least, c["efficiency"].clip(ZERO), here], -1)
        keep("charger_table", np.concatenate([table, [[0.0, 0.0, 0.0, 0.0, 1.0, 0.0]]]))  # last: not plugged in
        keep("always", np.ones(self.homes))
        keep("charger_flat_slot", np.append(slot, 0), torch.long)
        held = reading.indices["car"]
        first = [h[h < self.cars][0] if (h < self.cars).any() else 0 for h in held.T]
        keep("charger_car", first, torch.long)

        a = reading.appliance
        keep("appliance_home", a["home"], torch.long)
        keep("appliance_slot", a["slot"], torch.long)
        keep("appliance_flat_slot", flat[a["home"]] + a["slot"].clip(0), torch.long)
        keep("appliance_trigger", np.where(a["slot"] < 0, np.inf, a["trigger"]))
        for name in ("earliest", "latest", "deadline", "duration"):
            keep(f"cycle_{name}", a[name], torch.long)
        for name in ("energy", "priority", "profile"):
            keep(f"cycle_{name}", a[name])
        last_start = np.minimum(a["latest"], a["deadline"] - a["duration"] + 1)
        keep("cycle_window", np.stack([a["earliest"], last_start, a["duration"]], -1), torch.long)
        alive = [np.searchsorted(latest, np.arange(self.rows)) for latest in a["latest"]]
        keep("appliance_index", np.arange(self.appliances), torch.long)

        keep("table", np.concatenate([reading.blocks[k] for k in FLOATS], -1))
        self.widths = [reading.blocks[k].shape[-1] for k in FLOATS]
        indices = reading.indices | {"alive": np.stack(alive, -1) if alive else np.zeros((self.rows, 0), dtype=int)}
        self.index_widths = [indices[k].shape[-1] for k in INDICES]
        keep("index_table", np.concatenate([indices[k] for k in INDICES], -1), torch.long)
        keep("start_soc", reading.start_soc)
        keep("drift_noise", reading.drift_noise)
        keep("drift_base", reading.drift_base, torch.long)
        keep("price_column", reading.price_column, torch.long)
        keep("carbon_column", reading.carbon_column, torch.long)
        self.fingerprint = self._fingerprint()
        self._move(torch.device(device), dtype)

    @classmethod
    def from_citylearn(
        cls, env: Any, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
    ) -> Community:
        """Build from a loaded ``CityLearnEnv``; row r of the model is time step r of its episode.

        An environment that was never reset is reset, so that the drift of absent cars is that of its first episode.

        Raises
        ------
        UnsupportedSchema
            One line naming a feature the model does not have (thermal storage, HVAC, outages, limits, ...).
        """
        if env.unwrapped.episode_tracker.episode < 0:
            env.reset()
        return cls(read_environment(env), dtype, device)

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the model; float64 repeats CityLearn's float32 storage exactly."""
        return self.table.dtype

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.table.device

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> Community:
        """A copy on ``device`` with floating-point type ``dtype`` (``None``: as it is)."""
        moved = copy.copy(self)
        moved.power_curve, moved.efficiency_curve = copy.copy(self.power_curve), copy.copy(self.efficiency_curve)
        moved._move(torch.device(device or self.device), dtype or self.dtype)
        return moved

    def _move(self, device: torch.device, dtype: torch.dtype) -> None:
        for owner in (self, self.power_curve, self.efficiency_curve):
            for name, value in vars(owner).items():
                if isinstance(value, Tensor):
                    setattr(owner, name, value.to(device, dtype if value.is_floating_point() else None))
        # constants as they meet CityLearn's float32 numbers
        self.floor_energy = self.storage_minimum_soc * self.storage_capacity  # (N,) kWh
        self.nominal_stored = self._stored(self.storage_capacity)  # (N,) kWh
        self.full_power = (self.storage_power * self.hours).clamp_min(ZERO)  # (N,) kWh per step
        self.nominal_divisor = self.storage_capacity.clamp_min(ZERO)  # (N,) kWh
        self.half_fade = 0.5 * self._stored(self.storage_fade * self.storage_capacity)  # (N,) kWh

    def _fingerprint(self) -> str:
        """Short hash of what a trained policy depends on: names, order and physical constants, not the series."""
        digest = hashlib.sha256(repr((self.home_names, self.observation_names, self.action_names, self.hours)).encode())
        for name in ("storage_capacity", "storage_power", "charger_table", "action_low", "action_high"):
            digest.update(getattr(self, name).double().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def reset(
        self,
        batch: int = 1,
        start: int | Tensor = 0,
        horizon: int | None = None,
        battery_soc: float | Tensor | None = None,
        car_soc: float | Tensor | None = None,
    ) -> State:
        """Begin ``batch`` episodes at rows ``start`` (an int or (B,) long), of ``horizon`` steps (None: to the end).

        ``battery_soc`` (scalar or broadcastable to (B, H)) and ``car_soc`` (to (B, V)) override the schema's initial
        states of charge. A car that is plugged in at the first row with a known arrival SOC takes that, as in
        ``CityLearnEnv.reset``.

        Raises
        ------
        ValueError
            For a negative horizon, or a start or end outside the data.
        """
        start = torch.as_tensor(start, device=self.device).expand(batch).long()
        if horizon is not None and horizon < 1:
            raise ValueError(f"horizon must be at least 1 step, got {horizon}")
        end = torch.full_like(start, self.rows) if horizon is None else start + horizon + 1
        if int(start.min()) < 0 or int(end.max()) > self.rows:
            raise ValueError(
                f"rows {int(start.min())} to {int(end.max()) - 1} are not all in the data (0 to {self.rows - 1}); "
                "choose an earlier start or a shorter horizon"
            )
        soc = self.storage_initial_soc.expand(batch, -1).clone()
        if battery_soc is not None:
            soc[:, : self.homes] = torch.as_tensor(battery_soc, dtype=self.dtype, device=self.device)
        if car_soc is not None:
            soc[:, self.homes :] = torch.as_tensor(car_soc, dtype=self.dtype, device=self.device)
        elif self.cars:
            known = self.start_soc[start]
            soc[:, self.homes :] = torch.where(known >= 0, known, soc[:, self.homes :])
        soc = self._stored(soc)
        rows = self.read(start)
        none = torch.full((batch, self.appliances), -1, device=self.device)
        return State(
            row=start,
            end=end,
            drift=self.drift_base[start],
            soc=soc,
            capacity=self.storage_capacity.expand(batch, -1).clone(),
            soc_before=soc,
            net=self._stored(rows.load - rows.pv),
            day_peak=torch.zeros(batch, dtype=self.dtype, device=self.device),
            home_day_peak=torch.zeros(batch, self.homes, dtype=self.dtype, device=self.device),
            next_cycle=rows.alive,
            last_cycle=torch.full_like(none, self.cycle_latest.shape[-1] - 1),
            started_at=none,
            missed_cycle=none,
        )

    def read(self, row: Tensor, **channels: Tensor) -> Rows:
        """Exogenous data at ``row`` (any shape) -> ``Rows`` with that leading shape.

        ``channels`` reads named fields of ``Rows`` elsewhere, for augmentation: a tensor of rows with the field's
        width last, e.g. ``load=row + 24 * shift`` with shape (..., H); or a pair (rows, columns) to swap homes too.
        What belongs together must be read at the same rows: the chargers' and cars' fields, ``alive`` and ``clock``.
        """
        floats, indices = (
            t.index_select(0, row.reshape(-1)).unflatten(0, row.shape) for t in (self.table, self.index_table)
        )
        values = dict(zip(FLOATS, floats.split(self.widths, -1), strict=True))
        values |= dict(zip(INDICES, indices.split(self.index_widths, -1), strict=True))
        rows = Rows(**values, clock=row.unsqueeze(-1).expand(*row.shape, self.appliances))
        if channels:
            rows = rows._replace(**{name: self._read_field(name, where) for name, where in channels.items()})
        return rows

    def _read_field(self, name: str, where: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        if name == "clock":
            return where  # type: ignore[return-value]
        if name in FLOATS:
            source, widths, number = self.table, self.widths, FLOATS.index(name)
        else:
            source, widths, number = self.index_table, self.index_widths, INDICES.index(name)
        first = sum(widths[:number])
        row, column = where if isinstance(where, tuple) else (where, torch.arange(widths[number], device=self.device))
        return source[row, first + column]

    def price(self, rows: Rows) -> Tensor:
        """Price of each home, EUR/kWh, (..., H) or (..., 1) when all share it."""
        shared = self.shared_column[0]
        return rows.market[..., self.price_column] if shared is None else rows.market[..., shared : shared + 1]

    def carbon(self, rows: Rows) -> Tensor:
        """Carbon intensity of each home, kg/kWh, (..., H) or (..., 1) when all share it."""
        shared = self.shared_column[1]
        return rows.market[..., self.carbon_column] if shared is None else rows.market[..., shared : shared + 1]

    def step(
        self, state: State, actions: Tensor, rows: Rows | None = None, surrogate: bool = False
    ) -> tuple[State, Flows]:
        """Apply ``actions`` (B, H, S) in [-1, 1] for one row -> the next state and the row's flows.

        A storage action is a fraction of nominal power, a charger action of its maximum (dis)charging power, an
        appliance starts above its trigger. ``rows`` defaults to ``self.read(state.row)``. With ``surrogate`` the
        charger's deadband and the appliance's trigger pass gradients straight through (values unchanged).

        Source: ``CityLearnRuntimeService.step``.
        """
        rows = self.read(state.row) if rows is None else rows
        flat, homes = actions.flatten(1).clamp(-1.0, 1.0), self.homes
        there, gain, request = self._charger_request(flat, rows, surrogate)
        battery = flat.index_select(1, self.battery_slot) * self.battery_energy
        soc, balance, capacity = self._charge(state.soc, state.capacity, torch.cat([battery, request], -1))
        there = torch.cat([self.always.expand(len(flat), -1), there], -1)  # home batteries always are
        soc, capacity, balance = pick(there, soc, state.soc), pick(there, capacity, state.capacity), balance * there
        drawn = self._stored(balance[:, homes:] / gain)
        chargers = drawn.new_zeros(len(drawn), self.chargers + 1).scatter_add(1, rows.charger, drawn)[:, :-1]
        appliances, started, state = self._run_appliances(state, flat, rows, surrogate)

        net = self._stored(self._stored(rows.load + balance[:, :homes]) - rows.pv)
        net = self._stored(net.index_add(1, self.charger_home, chargers))
        if self.appliances:
            net = self._stored(net.index_add(1, self.appliance_home, appliances))
        bought = net.clamp_min(0.0)
        flows = Flows(
            net=net,
            battery=balance[:, :homes],
            chargers=chargers,
            appliances=appliances,
            cost=bought * self.price(rows),
            emissions=bought * self.carbon(rows),
            battery_soc=soc[:, :homes],
            car_soc=soc[:, homes:],
            started=started,
        )
        district = net.sum(-1)
        new_day = state.row % self.steps_per_day == 0
        state = state._replace(
            row=state.row + 1,
            soc=self._enter_next_row(soc, state.drift, rows),
            capacity=capacity,
            soc_before=soc,
            net=net,
            day_peak=torch.where(new_day, district, torch.maximum(state.day_peak, district)),
            home_day_peak=torch.where(new_day.unsqueeze(1), net, torch.maximum(state.home_day_peak, net)),
        )
        return state, flows

    def _stored(self, x: Tensor) -> Tensor:
        """CityLearn keeps its series in float32: in float64 round where it does (the gradient passes)."""
        return x.float().to(x.dtype) if x.dtype == torch.float64 else x

    def _charger_request(self, flat: Tensor, rows: Rows, surrogate: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Each car's presence (1 or 0), what of a kWh drawn reaches it, and the kWh asked of its battery; all (B, V).

        Source: ``Charger._signed_power_from_action``, ``Charger.update_connected_electric_vehicle_soc``.
        """
        at = torch.nn.functional.embedding(rows.charger, self.charger_table)
        charge, discharge, charge_min, discharge_min, link, there = at.unbind(-1)
        action = flat.gather(1, self.charger_flat_slot[rows.charger])
        up = action > 0
        power = action * torch.where(up, charge, discharge)
        applied = torch.where(power.abs() < torch.where(up, charge_min, discharge_min), 0.0, power)
        if surrogate:
            applied = power + (applied - power).detach()
        gain = torch.where(up, link, 1.0 / link)
        return there, gain, applied * gain * self.hours

    def _charge(self, soc: Tensor, capacity: Tensor, request: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Charge (+) or discharge (-) every storage by ``request`` (B, N) kWh at its terminals.

        Returns the new state of charge, the energy balance at the terminals (kWh) and the capacity left, all (B, N).
        The efficiency is that of the power limited with the previous one, twice, so it lags by one iteration.
        Source: ``Battery.charge``, ``StorageDevice._charge``, ``Battery.degrade``.
        """
        exact = soc.dtype == torch.float64
        nominal, floor, stored = self.storage_capacity, self.floor_energy, self._stored
        energy = stored(soc * self.nominal_stored)
        if exact:  # above its floor CityLearn's number is a float32, and so is what it meets
            single = energy > stored(floor)
            meet = lambda x: torch.where(single, stored(x), x)  # noqa: E731
            energy = torch.where(single, energy, floor)
        else:
            meet = lambda x: x  # noqa: E731
            energy = torch.maximum(energy, floor)
        limit = self.power_curve(meet(energy / meet(self.nominal_divisor))).clamp_min(0.0) * self.full_power
        wanted = torch.minimum(request.abs(), limit)
        up = (request >= 0).to(soc.dtype)
        room = meet(pick(up, meet(capacity) - energy, energy - meet(floor)).clamp_min(0.0))
        taken = wanted
        for _ in range(2):
            leg = self.efficiency_curve((taken / self.full_power).clamp_max(1.0)).sqrt()
            taken = torch.minimum(wanted, meet(pick(up, room / meet(leg), room * meet(leg))))
        reached = energy + pick(up, taken * leg, -taken / leg)
        clipped = torch.minimum(torch.maximum(reached, floor), nominal)
        delta = clipped - energy
        if exact:  # a clipped level is a Python float, and its distance to a float32 a float32
            delta = torch.where((clipped != reached) & single, stored(stored(clipped) - energy), delta)
        balance = stored(pick(up, delta / leg, delta * leg))
        faded = stored(stored(self.half_fade * balance.abs()) / stored(capacity).clamp_min(0.5 * ZERO))
        return (
            stored(clipped / self.nominal_divisor),
            balance,
            stored(stored(capacity) - faded).clamp_min(0.0),
        )

    def _run_appliances(self, state: State, flat: Tensor, rows: Rows, surrogate: bool) -> tuple[Tensor, Tensor, State]:
        """Start the next admissible cycle of each appliance where the action asks for it.

        Returns the energy used (B, A) kWh, the cycle started or -1 (B, A), and the state with its cycles moved on.
        Source: ``DeferrableAppliance.start_cycle``, ``._can_start_cycle``, ``._update_cycle_states``.
        """
        if not self.appliances:
            return flat.new_zeros(len(flat), 0), state.last_cycle, state
        which, clock = self.appliance_index, rows.clock
        next_cycle, missed_cycle = self.pass_missed(state, rows)
        earliest, last_start, duration = self.cycle_window[which, next_cycle].unbind(-1)
        ready = (earliest <= clock) & (clock <= last_start) & (duration < (state.end - state.row).unsqueeze(-1))
        action = flat.index_select(1, self.appliance_flat_slot)
        start = ready & (action > self.appliance_trigger)
        last_cycle = torch.where(start, next_cycle, state.last_cycle)
        started_at = torch.where(start, clock, state.started_at)
        longest = self.cycle_profile.shape[-1] - 1  # the profile's last column is 0
        offset = (clock - started_at).clamp(0, longest)
        used = self.cycle_profile[which, last_cycle, offset]
        if surrogate:  # value 0: starting a little more adds the cycle's first hour a little more
            wish = torch.where(ready, action, 0.0)
            used = used + (wish - wish.detach()) * self.cycle_profile[which, next_cycle, 0]
        state = state._replace(
            next_cycle=next_cycle + start.long(),
            last_cycle=last_cycle,
            started_at=started_at,
            missed_cycle=missed_cycle,
        )
        return used, torch.where(start, next_cycle, -1), state

    def pass_missed(self, state: State, rows: Rows) -> tuple[Tensor, Tensor]:
        """Skip the cycles whose latest start has passed -> next cycle and first missed cycle, both (B, A) long."""
        next_cycle = torch.maximum(state.next_cycle, rows.alive)
        missed = (next_cycle > state.next_cycle) & (state.missed_cycle < 0)
        return next_cycle, torch.where(missed, state.next_cycle, state.missed_cycle)

    def _enter_next_row(self, soc: Tensor, base: Tensor, rows: Rows) -> Tensor:
        """SOC at the beginning of the next row: standby loss; absent cars drift, arriving ones bring their own.

        Source: ``StorageDevice.next_time_step``, ``CityLearnRuntimeService.simulate_unconnected_ev_soc``.
        """
        stored, battery, car = self._stored, soc[:, : self.homes], soc[:, self.homes :]
        if self.batteries_lose:
            floor = stored(self.storage_minimum_soc[: self.homes])
            battery = torch.maximum(stored(battery * self.battery_keep), floor)
        draw = (rows.drift - base.unsqueeze(-1)).clamp(0, len(self.drift_noise) - 1)
        keep = torch.where(rows.drift >= 0, self.drift_noise.take(draw), rows.keep)
        car = torch.maximum((car * keep).clamp_max(1.0), rows.floor)
        return torch.cat([battery, stored(torch.where(rows.forced >= 0, rows.forced, car))], -1)
