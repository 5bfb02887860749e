# %% [markdown]
# # 02 · Training Cooperative MADDPG
#
# **What is asked.** Can the homes of one community, each with its own battery, cars and appliances, learn to
# act so that the *district* pays less, emits less, ramps less and peaks less than it does today, while every
# car still leaves with the charge its driver asked for, within CityLearn's tolerance?
#
# This notebook trains one seed of one variant and follows it to the end: the idea, the settings, the community,
# the policy, its habits and its guard, the critic, the loop, the learning curve, the verdict on weeks it never saw,
# first in the fast model and then in CityLearn itself, and a day of its life. A run that was stopped continues from its
# checkpoint; one whose rows are there, made by the same settings, data and code, is only read.

# %% tags=["parameters"] nbmake={"mock": {"profile": "test", "hours": 72, "updates": 2}}
profile = "quick"  # configs/<profile>.yaml; results and figures go to folders of this name
edition = ""  # official | offline | auto; empty: as the profile says
language = ""  # of what is shown here: es | en; empty: as the profile says
variant = "announce"  # one of the profile's variants
seed = 0  # of weights, training windows and noise
hours = 0  # of the evaluation, from row 0; 0: the whole year
updates = 0  # of the actors; 0: as the profile says
minutes = 0.0  # of training; 0: as the profile says

# %%
import pandas as pd
import torch
from IPython.display import Markdown, display

from thesis_lib import paths
from thesis_lib.analysis import evaluation, figures, labels, learner, page, tables
from thesis_lib.analysis.hourly import hardest
from thesis_lib.community import dataset, splits
from thesis_lib.community.kpis import WEIGHTS, Service
from thesis_lib.community.model import Community
from thesis_lib.config import load_config
from thesis_lib.maddpg.training import TrainConfig
from thesis_lib.provenance import ensure_writable

config = load_config(profile)
labels.use(language or config.language)
page.use_style()
keep = profile if seed == 0 else None  # figures and tables of other seeds are shown here, not kept
torch.set_num_threads(config.threads)
data = dataset.find(edition or config.edition)
controller = learner.CONTROLLER
end = hours or None
ensure_writable(paths.results(profile))
print(f"profile {profile}, {data.edition} edition, variant {variant}, seed {seed}")
if hours:
    display(Markdown(f"**A trial of {hours} hours: what follows shows that everything runs, and is no result.**"))

# %% [markdown]
# ## The idea
#
# Each home $h$ has an actor $\mu_h$ that turns what the home observes, $o_h$, into what its devices do. They all
# receive one **team reward** $r$: minus the district's cost, emissions, ramping, daily peak and import of the
# hour, each over its mean under business as usual (BAU) and weighted as in the composite, so that BAU earns
# $-1$ an hour on average (training adds the constant `reward_offset`, which moves no optimum). One central
# **critic** $Q$ sees all observations and actions while training, and is thrown away afterwards: training is
# centralised, execution is not (CTDE, Lowe et al. 2017).
#
# The actors' loss has one dial, the rollout horizon $K$:
#
# $$
# \mathcal{L}(\mu) = -\,\mathbb{E}\left[\sum_{k=0}^{K-1} \gamma^k\, r\big(s_{t+k}, \mu(o_{t+k})\big)
# \;+\; \gamma^K\, Q\big(s_{t+K}, \mu(o_{t+K})\big)\right]
# $$
#
# With $K = 0$ this is MADDPG: the actors climb the critic and know nothing else. With $K > 0$ the
# current actors are rolled through the community model, which is differentiable, so the gradient of the reward
# itself reaches them, and the critic only has to value what comes after hour $K$. The policy that comes out is
# of the same form either way: observations in, actions out.

# %% [markdown]
# ## The settings
#
# Everything that can be set stands in the profile, with a comment beside it; nothing has a hidden default. The
# table shows what is in force for this variant.

# %%
overrides = {key: value for key, value in {"updates": updates, "minutes": minutes}.items() if value}
train_config = TrainConfig(**(config.train_for(variant) | overrides))
tables.publish(
    tables.settings(profile, train_config.model_dump()),
    f"settings_{variant}",
    keep,
    lambda: labels.t("caption.settings", variant=labels.controller(controller, variant), profile=profile),
)

# %%
horizon = train_config.rollout_horizon
how = (
    f"$K = {horizon}$: the actors are rolled through {horizon} hours of the model in each update, in "
    f"{train_config.batch} communities at once."
    if horizon
    else f"$K = 0$: MADDPG, from a replay memory of {train_config.replay_capacity:,} transitions."
)
budget = f"At most {train_config.updates:,} updates or {train_config.minutes:g} minutes, whichever comes first."
display(Markdown(f"{how} {budget}"))

# %% [markdown]
# ## The community
#
# CityLearn loads the data set; the fast model reads the loaded environment and repeats its physics in batched,
# differentiable tensors. What a home observes and what it can act on differ: a home without a car has nothing to
# say about charging. There is no heating, cooling or hot-water action in this data set.

# %%
env = dataset.load(data)
env.reset()
service = Service.from_citylearn(env)
community = Community.from_citylearn(env)
homes = tables.homes(community)
tables.publish(
    homes, "community", keep, lambda: labels.t("caption.community", edition=labels.t(f"edition.{data.edition}"))
)
display(
    Markdown(
        f"The {data.edition} edition has **{community.homes} homes**, {community.chargers} chargers, "
        f"{community.cars} cars and {community.appliances} deferrable appliance(s). A home observes "
        f"{homes['observations'].min()} to {homes['observations'].max()} numbers and takes "
        f"{homes['actions'].min()} to {homes['actions'].max()} actions; together they take "
        f"{homes['actions'].sum()} actions an hour. Training sees "
        f"{(splits.split_of_rows(community.rows) == 'train').sum():,} of the {community.rows:,} hours; the last "
        "seven days of each month (test) and the seven before them (validation) are kept from it."
    )
)

# %% [markdown]
# ### Actions
#
# Every action lies between its bounds: 1 charges at full power, −1 discharges at full power, 0 does nothing. For
# a deferrable appliance a positive action starts the cycle that is waiting.

# %%
bounds = pd.DataFrame(
    [
        (name, slot, float(community.action_low[home, place]), float(community.action_high[home, place]))
        for home, name in enumerate(community.home_names)
        for place, slot in enumerate(community.action_names[home])
        if len(community.action_names[home]) > 1
    ],
    columns=["home", "action", "low", "high"],
)
display(bounds.style.hide(axis="index").format(precision=2))

# %% [markdown]
# ## The policy, its habits and its guard
#
# All actors are small networks evaluated in one batched operation. What a home hears of the others is the
# variant's choice: with `none` its action depends on its own observation alone; with `broadcast` an aggregator
# that receives every meter sends back two sums, the district's last net consumption and its uncontrolled net
# (load − PV) of this hour; with `announce` it also sums what the homes' cars still lack, their batteries hold and
# their appliances may start, and, in a second round, what cars and appliances are about to take, which every
# battery then answers. That is communication, and is called so.
#
# An actor does not start from nothing but from the **habits** of a careful household: charge each car evenly until
# it leaves, start an appliance as soon as it may, let the battery cancel what the home draws or gives. For each
# device it says which multiple of the habit it wants and what to add, so an untrained policy is a rule already. The
# battery comes last and answers what the home's car really does in the same hour.
#
# The last layer over cars and appliances is the **departure guard**. A car may do as the actor likes as long as full
# power in the hours that follow would still bring it to its required state of charge, less `guard_tolerance`, in
# time; otherwise the guard raises the action to the least that does. It knows only what the home sees. While a
# departure is not yet disclosed, the car gains at least a pace that was fitted on training sessions, up to the same
# charge. An appliance that cannot wait another hour is started.
#
# ## The critic
#
# One central twin critic reads what all homes see and do and says what the team will still earn. It serves the
# actors' loss beyond hour $K$ and is not part of what is deployed. What is validated, kept and deployed is the average
# of the last policies.

# %%
with labels.using("en"):
    shares = ", ".join(f"{labels.kpi(name).lower()} {weight:.2f}" for name, weight in WEIGHTS.items())
display(
    Markdown(
        f"Coordination `{train_config.coordination}`; "
        f"{'one set of weights for all homes' if train_config.shared_actors else 'one set of weights for each home'}, "
        f"two hidden layers of {train_config.actor_units} units, optimised by {train_config.actor_optimiser.title()}; "
        f"critic of {train_config.critic_units} units; habits {'on' if train_config.habits else 'off'}; guard "
        f"{'on' if train_config.guard else 'off'}. The team reward weighs {shares}."
    )
)

# %% [markdown]
# ## The loop
#
# Windows are drawn from training rows only, whatever their horizon; with augmentation their days, homes and
# weather are put together anew. At every validation the policy runs the twelve validation weeks, and `best.pt`
# is the best one that also serves: at least 99 % of the feasible departures, every appliance cycle. That policy then
# runs one continuous year, from the first hour and without restart: in the fast model, where a year takes seconds,
# and in CityLearn, whose word is the last.

# %%
rows = learner.learn(config, variant, seed, data, overrides=overrides, end=end)
log = pd.read_csv(paths.run(profile, data.edition, controller, variant, seed) / "training.csv")
log.tail(3)

# %% [markdown]
# ## What is seen while it learns
#
# The loss is what the actors minimise, on training windows; the composite is what counts, on validation weeks. They
# need not fall together: the loss holds the critic's word on what comes after hour $K$, and moves as the critic learns.
# What is to be beaten is BAU, 1 by definition. The first point is the first validation, after some updates already:
# what the untrained policy has is the row of the habits in notebook 03.
# The composite here is of the validation weeks in the fast model, each started a day earlier.

# %%
of = {"split": "validation", "engine": "model", "edition": data.edition}
figures.publish("learning_curves", log, profile=keep, save_as=f"learning_curve_{variant}", of=of)
first, last = log.iloc[0], log.iloc[-1]
serving = log[log["passes"] == 1]
with labels.using("en"):
    fall = labels.number(last["composite"] - first["composite"], 3, sign=True)
display(
    Markdown(
        f"In {last['seconds'] / 60:.1f} minutes by the wall clock and {int(last['update']):,} updates the validation "
        f"composite went from {first['composite']:.3f} to {last['composite']:.3f} ({fall}). "
        + (
            f"{len(serving)} of {len(log)} validations passed the service gate; the best of them has "
            f"{serving['composite'].min():.3f}, and `best.pt` is that one."
            if len(serving)
            else f"None of the {len(log)} validations passed the service gate, so the policy evaluated below is the "
            "last one, and it cannot be counted among those that serve."
        )
    )
)

# %% [markdown]
# ## The verdict on weeks it never saw
#
# The year is cut into splits afterwards. Business as usual of the same edition and engine is the denominator.

# %%
bau = evaluation.read_rows(paths.run(profile, data.edition, evaluation.REFERENCE, "default", 0) / "kpis.csv")
both = pd.concat([bau, rows])
split = "test" if (rows["split"] == "test").any() else "year"
engine = config.engines[0]
tables.publish(
    tables.controllers(both, split=split, engine=engine),
    f"verdict_{variant}",
    keep,
    lambda: tables.caption(
        "verdict",
        split=split,
        engine=engine,
        edition=data.edition,
        controller=labels.controller(controller, variant),
        seed=seed,
    ),
)

# %%
value = rows.set_index(["engine", "split", "kpi"])["value"]
ratios = tables.relative(both)
ratios = ratios[(ratios["controller"] == controller) & (ratios["split"] == split) & (ratios["engine"] == engine)]
terms = ratios[ratios["kpi"].isin(tables.TERMS)].set_index("kpi")["value"]
composite = value[engine, split, tables.COMPOSITE]
passes = tables.gate(tables.select(rows, split=split, engine=engine))["passes"].all()
with labels.using("en"):
    where = labels.t(f"weeks.{split}")
    sentences = [
        f"On the {where} (engine: {labels.t(f'engine.{engine}')}), the composite is **{composite:.3f}** of BAU's, "
        f"{abs(1 - composite):.1%} {'lower' if composite < 1 else 'higher'}.",
        f"The term that gains most is {labels.kpi(terms.idxmin()).lower()} ({terms.min():.3f} of BAU's), the one that "
        f"gains least {labels.kpi(terms.idxmax()).lower()} ({terms.max():.3f}).",
        f"{value[engine, split, 'ev_departures_met']:.1%} of the feasible departures are met: the policy "
        f"{'passes' if passes else 'does **not** pass'} the service gate.",
    ]
if split != "year":
    with labels.using("en"):
        gap = labels.number(composite - value[engine, "train", tables.COMPOSITE], 3, sign=True)
    sentences.append(
        f"On training weeks it has {value[engine, 'train', tables.COMPOSITE]:.3f}: weeks it never saw differ "
        f"by {gap}."
    )
if {"model", "citylearn"} <= set(rows["engine"]):
    worst = tables.engines(rows, split=split)["distance"].max()
    sentences.append(f"The two engines differ by at most {worst:.1e} (relative) in any KPI of the table.")
display(Markdown(" ".join(sentences)))

# %% [markdown]
# ## A day of its life
#
# Which day? The one with the highest hour under business as usual among the weeks the policy never saw: the
# hardest it was judged on. Bars above zero draw energy, bars below bring it; the line is what the meter of the
# district sees. The lower panels show what the policy had to work with.

# %%
if seed == 0:
    hourly = evaluation.read_hourly(profile, data.edition, engine)
    end_row = int(hourly["row"].max()) + 1
    weeks = splits.blocks("test", end_row)
    start, stop = hardest(hourly, weeks or [(0, end_row)])
    usual = hourly[(hourly["controller"] == evaluation.REFERENCE) & hourly["row"].between(start, stop - 1)]
    day = int(usual.loc[usual["net"].idxmax(), "row"]) // 24
    flows = evaluation.read_flows(profile, data.edition, controller, variant)
    district = tables.district(tables.replay(flows, community), service)
    place = {"split": split, "engine": engine, "edition": data.edition}
    figures.publish(
        "policy_day", district, day, (controller, variant), profile=keep, save_as=f"policy_day_{variant}", of=place
    )
    today = district.loc[day * 24 : day * 24 + 23]
    peak = usual[usual["row"] // 24 == day]["net"].max()
    dear = today["price"] >= today["price"].median()
    taken = today["battery_charged"] + today["cars_charged"]
    with labels.using("en"):
        date = labels.date(day * 24)
    text = (
        f"On {date} business as usual peaks at {peak:.1f} kW, the policy at "
        f"{today['net'].max():.1f}. It puts {taken[~dear].sum():.1f} kWh into batteries and cars in the cheaper half "
        f"of the hours and {taken[dear].sum():.1f} kWh in the dearer half."
    )
else:
    text = "The hourly flows of each home are kept for seed 0 only: see its notebook."
display(Markdown(text))

# %% [markdown]
# ## What follows
#
# One seed proves little. Notebook 03 puts every seed of every variant beside the rules, in the same weeks and in
# both engines, and says which of them serve. Whether the loss, the coordination or the guard deserves the credit is
# a matter of ablations, each switched alone.
