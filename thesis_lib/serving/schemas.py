"""What goes in and out of the service."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

# Lists end at their first fault: to describe all those of a 64 KB body takes longer than a hundred predictions.
Value = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Action = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]


class PredictRequest(BaseModel):
    """What each home observes in this hour."""

    model_config = ConfigDict(extra="forbid", strict=True)

    observations: Annotated[
        list[Annotated[list[Value], Field(fail_fast=True)]],
        Field(fail_fast=True),
        Field(description="One list a home, in the order and units of GET /schema (CityLearn's)."),
    ]


class PredictResponse(BaseModel):
    """What each home does in this hour."""

    actions: Annotated[list[list[float]], Field(description="One list a home, as CityLearn wants them.")]
    timestamp: Annotated[str, Field(description="ISO 8601, UTC.")]
    model_version: str


class Health(BaseModel):
    """The process lives."""

    status: Literal["healthy"] = "healthy"


class Ready(BaseModel):
    """Whether a model is loaded and has answered once."""

    status: Literal["ready", "not ready"]
    model_loaded: bool
    reason: str | None = None


class Problem(BaseModel):
    """Why a request was not served."""

    detail: str
    home: str | None = None
    field: str | None = None


class ObservationName(BaseModel):
    """One observation."""

    name: str
    unit: str


class ActionName(BaseModel):
    """One action and its bounds."""

    name: str
    low: float
    high: float


class Home(BaseModel):
    """What a home sees and does, in order."""

    name: str
    observations: list[ObservationName]
    actions: list[ActionName]


class SchemaResponse(BaseModel):
    """What each home sees and does, and what the homes tell each other."""

    model_version: str
    edition: str
    variant: str
    communication: str
    homes: list[Home]


class ResetRequest(BaseModel):
    """Where the episode begins."""

    model_config = ConfigDict(extra="forbid", strict=True)

    start: Annotated[int, Field(ge=0, le=8758, description="Row: hours after 2024-08-01 00:00.")] = 0


class StepRequest(BaseModel):
    """How far the episode goes on."""

    model_config = ConfigDict(extra="forbid", strict=True)

    hours: Annotated[int, Field(ge=1, le=168)] = 1
    actions: Annotated[
        Annotated[list[Annotated[list[Action], Field(fail_fast=True)]], Field(fail_fast=True)] | None,
        Field(description="One list a home, for one hour; without them the policy decides."),
    ] = None


class SimulatedHour(BaseModel):
    """One hour of the community: energies in kWh, positive = consumed; SOC after the hour."""

    row: int
    price: float
    carbon: float
    net: list[float]
    load: list[float]
    pv: list[float]
    battery: list[float]
    battery_soc: list[float]
    chargers: list[float]
    car_soc: list[float]
    appliances: list[float]
    cost: float
    emissions: float
    actions: list[list[float]]


class Episode(BaseModel):
    """Where the server's episode stands, and the hours that were asked for."""

    edition: str
    dataset: str
    model_version: str
    variant: str
    row: int
    ended: bool
    homes: list[str]
    chargers: list[dict[str, Any]]
    hours: list[SimulatedHour]
    observations: Annotated[list[list[float]], Field(description="What the homes see now.")]
