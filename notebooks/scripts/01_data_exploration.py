# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The community before anybody controls it
#
# Seventeen homes share a tariff, the weather and a carbon intensity; of the wires between them the files say
# nothing. Each has a battery and solar panels, seven of them have one or two charging points for electric
# cars, and one has an appliance that can wait. Before asking what a controller can do with them, this notebook
# asks what is there to be done: who owns what, when energy is needed, made, cheap and clean, when the cars are
# at home and what they must leave with, and which of the data deserve suspicion.
#
# It also fits the generator of the *offline* edition, the one that lets everything run on a machine that
# cannot fetch the official files. The last section shows how near it comes.
#
# Figures and tables are of the edition that the first cell prints; the prose describes the official one.
# With the offline edition tariff and cars differ.

# %% tags=["parameters"] nbmake={"mock": {"profile": "test"}}
profile = "quick"
edition = ""  # official, offline or auto; empty: as the profile says
language = "en"  # of what is shown here: es or en

# %%
import json

import pandas as pd
from IPython.display import display

from thesis_lib import paths
from thesis_lib.analysis import exploration, labels, page, tables
from thesis_lib.community import dataset, sessions, splits
from thesis_lib.config import load_config

config = load_config(profile)
labels.use(language)
page.use_style()
data = dataset.find(edition or config.edition)
series = exploration.read(data)
stays, cycles = sessions.read_sessions(data.schema), sessions.read_cycles(data.schema)


def about(key):
    """A caption that names the edition, in the language in use."""
    return labels.t(key, edition=labels.t(f"edition.{data.edition}"))


print(f"{data.edition} edition, {len(data.checksums)} files, checksums verified")

# %% [markdown]
# ## Who owns what
#
# **Asked:** how are load, generation and flexibility spread over the homes?

# %%
homes = exploration.homes(data, series)
tables.save(homes, "data_homes", profile, lambda: about("data.caption_homes"))
page.publish(
    lambda: exploration.resources(homes),
    lambda: exploration.resources_caption(homes, data.edition),
    "data_resources",
    profile,
    homes,
)
homes.round(2)

# %% [markdown]
# **Seen:** the homes use energy of the same order, from 6 to 15 MWh a year, but what can be controlled is
# concentrated. Every home has the same battery of 6.4 kWh; the cars, in seven homes, hold five times as
# much as all batteries together. The homes with cars also have the larger roofs. The strongest charger
# alone (22 kW) can draw more than the average load of all seventeen homes (19 kW), and the appliance of home 1,
# in its hardest hours, more than twice that (see what is odd below). So the peak of a day is made by few machines,
# and by which of them run in the same hour.
#
# **What follows:** the homes are not exchangeable agents. Ten of them decide about one battery; home 15
# about a battery and two cars; home 1 about a battery, a car and an appliance. Actors that share weights
# have to tell homes apart by their devices (notebook 06 tries it), and padding (three action slots, at most
# 52 observations) is the price of batching them.

# %% [markdown]
# ## When energy is needed, made, cheap and clean
#
# **Asked:** does the day have a shape that a controller could use?

# %%
by_hour = exploration.hours_data(series)
page.publish(
    lambda: exploration.hours(by_hour),
    lambda: exploration.hours_caption(by_hour, data.edition),
    "data_hours",
    profile,
    by_hour,
)

# %%
units = {"load": "load (kW)", "pv": "PV (kW)", "price": "price (EUR/kWh)", "carbon": "carbon (kg/kWh)"}
mean = by_hour.set_index("hour")[list(units)].rename(columns=units)
pd.DataFrame(
    {
        "highest at": mean.idxmax(),
        "value": mean.max(),
        "lowest at": mean.idxmin(),
        "value ": mean.min(),
    }
).round(3)

# %% [markdown]
# **Seen:** generation peaks at noon at twice the load of that hour. Load rises until ten in the morning and
# stays on a plateau until eight in the evening (part of its noon hump is an artefact, see what is odd
# below). Price and carbon intensity have a daily shape as well, and not the same one: on average the
# cheapest hour, 17 h, is one of the dirtiest, and the dearest, 22 h, is not. The bands are wide: the mean
# day is a poor forecast of any one day.
#
# **What follows:** there are two arbitrages, storing the noon surplus for the evening and moving the
# charging of the cars into the cheap hours of the night. Exports earn nothing; they count only through ramping,
# and where they cover a neighbour's import. The rest of the surplus is worth what it later replaces. And since
# price and carbon disagree, a team reward must say how it weighs them.

# %%
by_month = exploration.months_data(series)
page.publish(
    lambda: exploration.months(by_month),
    lambda: exploration.months_caption(by_month, data.edition),
    "data_months",
    profile,
    by_month,
)

# %% [markdown]
# **Seen:** load has two humps, summer and midwinter, the higher almost twice as high as April; PV more than
# doubles from January to June. From March to June the panels make as much energy as the homes use, cars
# apart; in December and January, less than half. March is by far the dearest month, December the cheapest.
#
# **What follows:** test weeks must come from every season, which is why the split below takes the last week
# of *each* month rather than the last months of the year.

# %% [markdown]
# ## The cars
#
# **Asked:** when is a car there to be charged, and how urgent is it?
#
# A *session* is one stay at the charger. The sessions follow a seven-day rhythm with two days that differ
# from the others: the days 0 and 1 of every seven, counted from the first row. They are called *rest days*
# here. They are not the Saturday and Sunday of the calendar, nor the 6 and 7 of the files' `day_type`, which are
# all of it that the learners here read: that a day is one of rest, they can tell by the cars alone.

# %%
page.publish(
    lambda: exploration.sessions(stays),
    lambda: exploration.sessions_caption(stays, data.edition),
    "data_sessions",
    profile,
    exploration.sessions_data(stays),
)
sessions.summary(stays, cycles).round(2).to_frame(data.edition)

# %% [markdown]
# **Seen:** on working days the cars leave at eight or nine and return at six or seven in the evening, with half their
# charge; on rest days they leave later and for a few hours only. So they stand at home all night, about fourteen
# hours, with a need (29 % of a 67 kWh battery on average) that takes about two of them: that is the flexibility. When
# the panels make most of their surplus, on working days, almost no car is there. The required SOC lies mostly between
# 80 and 90 %, whatever the car brings.
#
# A car that stays at home for a rest day hides its departure: the file discloses it at midnight of the day
# on which it leaves, that is six hours before at the least. These are exactly the stays of more than 24
# hours.
#
# **What follows:** a full battery is waste, since what a car carries away above its required SOC is lost to
# the community; an empty one is a failed service. A guard of the departures must do without the departure
# hour during such stays: it must hold a SOC from which the last six hours are enough.

# %% [markdown]
# ## The year in three parts
#
# In each month the last seven days are for testing, the seven before them for validation, the rest for
# training.

# %%
parts = exploration.splits_data()
page.publish(
    lambda: exploration.split_calendar(parts),
    lambda: exploration.split_calendar_caption(parts),
    "data_splits",
    profile,
    parts,
)
ended = stays[stays["departure"] < 8760]  # the last row cuts off one session of each car
split_of_departure = pd.Series(splits.split_of_rows()[ended["departure"]])
counts = pd.DataFrame(
    {
        "split": list(splits.SPLITS),
        "days": [(splits.split_of_rows() == name).sum() // 24 for name in splits.SPLITS],
        "sessions": [int((split_of_departure == name).sum()) for name in splits.SPLITS],
    }
)
tables.save(counts, "data_splits", profile, lambda: about("data.caption_splits"))
counts

# %% [markdown]
# **What follows:** each part has its share of every season, of working and of rest days. A session belongs
# to the part in which it ends.

# %% [markdown]
# ## What is not what it seems
#
# **Asked:** can the files be taken at their word, home by home?

# %%
page.publish(
    lambda: exploration.odd_homes(homes, series),
    lambda: exploration.odd_homes_caption(homes, data.edition),
    "data_odd_homes",
    profile,
    homes[["home", "sun", "pv_yield"]],
)
others = homes[~homes["home"].isin(["12", "15"])]
night = exploration.HOURS.hour.isin([22, 23, 0, 1, 2, 3, 4])
pd.DataFrame(
    {
        "home": ["12", "15", "others, median"],
        "load and irradiance, correlation": [
            *homes.set_index("home").loc[["12", "15"], "sun"],
            others["sun"].median(),
        ],
        "load at night (22-5 h), mean kW": [
            *(series.load.loc[night, name].mean() for name in exploration.ODD_HOMES),
            series.load.loc[night].drop(columns=list(exploration.ODD_HOMES)).mean().median(),
        ],
        "hours below 1 W": [
            *(int((series.load[name] < 1e-3).sum()) for name in exploration.ODD_HOMES),
            int((series.load.drop(columns=list(exploration.ODD_HOMES)) < 1e-3).sum().median()),
        ],
        "PV yield, kWh/kW": [
            *homes.set_index("home").loc[["12", "15"], "pv_yield"],
            others["pv_yield"].median(),
        ],
    }
).round(3)

# %%
mean_load = series.load.sum(axis=1).mean()
for home, own in cycles.groupby("home"):
    hardest = own["profile"].map(max)
    print(
        f"{home}: appliance of {len(own)} cycles and {own['energy'].sum() / 1000:.2f} MWh a year, beside a load of "
        f"{series.load[home].sum() / 1000:.2f} MWh; at most {hardest.max():.1f} kW in an hour and "
        f"{own['energy'].max():.0f} kWh in a cycle; {(hardest > mean_load).sum()} cycles have an hour above the mean "
        f"load of all homes ({mean_load:.1f} kW)"
    )

# %% [markdown]
# **Seen:** the load of homes 12 and 15 is nothing at night and follows the sun by day: it is what a solar
# inverter delivers, not what a family uses, and has most likely been recorded with the channels confused.
# Home 15's PV, in turn, yields next to nothing but in its last month. Home 14's PV yields a third of the
# others'.
#
# Nor does a household's appliance take what that of home 1 does: one cycle a day, in its hardest hour more than
# twice the mean load of all homes or the strongest charger. It may start in the small hours, when the cars charge
# too. Business as usual starts it at once, and has the highest hours of its year there.
#
# **What follows:** these homes stay in the community, since they are part of the data set, and
# their devices work like the others'. But homes 12 and 15 have a "load" that peaks with their neighbours'
# surplus, which makes the district look better balanced than it would be. District figures carry that bias for
# every controller alike. Single homes stand in the heat map and the table of costs by home: what they say of
# homes 12, 14 and 15 is to be read with this in mind. And part of what a controller does to the peak is when it
# starts one machine: the captions of `policy_day_*` say how much of the highest hour is the appliance.

# %% [markdown]
# ## The generator of the offline edition
#
# **Asked:** where the official files cannot be had, are generated cars a fair stand-in?
#
# From the official sessions the fit keeps sums only: how often a car leaves at which hour and for how long,
# on working and on rest days; how often it stays at home on a rest day; deciles of the arrival SOC for each
# charger; the mix of required SOCs; how many hours before the arrival the car is announced; and for the
# appliance start hours, windows, lengths and deciles of energy per hour. They lie in
# `thesis_lib/community/sessions.json`; here they are computed anew and compared.

# %%
try:
    official = dataset.find("official")
    published = sessions.read_sessions(official.schema), sessions.read_cycles(official.schema)
except dataset.DatasetError as reason:
    published = None
    print(f"the official edition is not here, so there is nothing to compare with: {reason}")

# %%
if published is not None:
    offline = dataset.find("offline")
    generated = sessions.read_sessions(offline.schema), sessions.read_cycles(offline.schema)
    kept = json.loads(sessions.FIGURES.read_text(encoding="utf-8"))
    fitted = sessions.fit(*published)
    assert all(kept[key] == value for key, value in fitted.items()), "sessions.json is not what the fit gives"
    print("sessions.json agrees with the fit")
    table = exploration.agreement_table(published, generated)
    tables.save(table, "data_fit", profile, lambda: labels.t("data.caption_fit"))
    page.publish(
        lambda: exploration.agreement(published, generated),
        lambda: exploration.agreement_caption(published, generated),
        "data_fit",
        profile,
        table,
    )
    display(table.round(3))

# %% [markdown]
# **Seen:** hours of departure and arrival, stays, SOCs and energies agree within a few per cent. What
# differs: a year has only about a hundred long stays, so their number differs by chance; the spread of the
# cycles' energy is smaller than in the files, since hours of one cycle are drawn independently; and the fit
# knows no dependence between one day and the next beyond the rest days.
#
# **What follows:** the offline edition exercises the same physics, observations and difficulties, and a
# method that works on one should work on the other. It has another tariff, though (time of use instead of
# hourly), so costs are never compared across editions: every row of a result names the edition it comes
# from.

# %%
print("figures in", paths.figures(profile).relative_to(paths.ROOT).as_posix())
print("tables in", paths.tables(profile).relative_to(paths.ROOT).as_posix())
