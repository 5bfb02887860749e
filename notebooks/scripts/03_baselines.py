# %% [markdown]
# # 03 · Rules and plans, and what learning adds to them
#
# **What is asked.** How good is a community without a learned policy? One is worth its trouble only if it beats the
# simple things that cost nothing: charging on arrival, what people do today, rules that spread the charge over the
# hours until departure. Random actions show what no knowledge at all comes to, and why service is read first. A plan
# that is computed anew every hour costs more than a learned answer, and shows how much is left.
#
# Every controller runs one continuous year in CityLearn itself and in the fast model; its hours are cut into
# training, validation and test weeks afterwards. The learned policies that notebook 02 left are put beside
# them, every seed shown.

# %% tags=["parameters"] nbmake={"mock": {"profile": "test", "hours": 72, "workers": 1}}
profile = "quick"  # configs/<profile>.yaml; results and figures go to folders of this name
edition = ""  # official | offline | auto; empty: as the profile says
language = ""  # of what is shown here: es | en; empty: as the profile says
seeds = []  # of the random controller; empty: those of the profile
hours = 0  # of the evaluation, from row 0; 0: the whole year
workers = 2  # processes that roll controllers side by side

# %%
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pandas as pd
import torch
from IPython.display import Markdown, display

from thesis_lib import paths
from thesis_lib.analysis import ablations, comparison, evaluation, figures, labels, learner, page, tables
from thesis_lib.analysis.hourly import home_changes
from thesis_lib.community import dataset, splits
from thesis_lib.community.kpis import Service
from thesis_lib.community.model import Community
from thesis_lib.config import load_config
from thesis_lib.controllers import CONTROLLERS
from thesis_lib.provenance import Stopwatch, ensure_writable, run_record, write_json_atomic

config = load_config(profile)
labels.use(language or config.language)
page.use_style()
seeds = seeds or config.seeds
data = dataset.find(edition or config.edition)
end = hours or None
watch = Stopwatch()
ensure_writable(paths.results(profile))
print(f"profile {profile}, {data.edition} edition, engines {', '.join(config.engines)}")
if hours:
    display(Markdown(f"**A trial of {hours} hours: what follows shows that everything runs, and is no result.**"))

# %% [markdown]
# ## Who is compared
#
# | controller | batteries | cars | appliance |
# | --- | --- | --- | --- |
# | charge on arrival | idle | full power from arrival until full | at once |
# | business as usual (BAU) | PV surplus in, home demand out | even power until departure, to full | at once |
# | spread rule | as BAU | as BAU, but only up to the required charge | at once |
# | tuned rule | as BAU, by sixteen numbers tuned on training weeks | to the guard's tolerance below it | by price |
# | habits (untrained policy) | bring the home's net to zero | even power, to the guard's tolerance below it | at once |
# | CityLearn's RBCs | by price or clock | by price, sun or clock | at once |
# | MPC | planned for all homes at once, 24 hours ahead, every hour | planned | planned |
# | random | uniform | uniform | uniform |
#
# Which of them a profile has stands in its `controllers`; docs/protocol.md says what each knows.
# BAU takes the same actions as CityLearn's own business-as-usual agent, and is the denominator of every ratio
# below: of the same edition, the same weeks and the same engine. It is rolled first, the others side by side.

# %%
jobs = [(name, seed) for name in config.controllers for seed in (seeds if name == "random" else [0])]
jobs.sort(key=lambda job: job[0] != evaluation.REFERENCE)
common = {"end": end, "config": config, "progress": False}
with watch("rules"):
    first, rest = jobs[0], jobs[1:]
    if first[0] != evaluation.REFERENCE:
        raise ValueError(f"configs/{profile}.yaml: controllers must hold {evaluation.REFERENCE}, the reference")
    evaluation.evaluate_controller(
        first[0], "default", 0, CONTROLLERS[first[0]], data, profile, config.engines, **common
    )
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        running = []
        for name, seed in rest:
            options = evaluation.settings_of(name, seed)
            made = CONTROLLERS[name](**options)
            running.append(
                pool.submit(
                    evaluation.evaluate_controller,
                    *(name, "default", seed, made, data, profile, config.engines),
                    settings=options,
                    **common,
                )
            )
        for (name, seed), job in zip(rest, running, strict=True):
            print(f"{name}, seed {seed}: {len(job.result())} rows")

# %% [markdown]
# ## Service first, then the bill
#
# A controller that leaves cars empty can be cheap, and is useless. The gate asks for at least 99 % of the departures
# that could be met and for every appliance cycle; what falls below it is listed apart, whatever it costs, and is no
# competitor. The table is of the weeks kept for testing, in CityLearn.

# %%
kpis = evaluation.collect(profile)
kpis = kpis[kpis["edition"] == data.edition]
if old := learner.outdated(config, data, end):
    display(Markdown(f"**Out of date**, of other settings, data or code than today's: {ablations.told(old)}."))
split = "test" if (kpis["split"] == "test").any() else "year"
engine = config.engines[0]
where = {"split": split, "engine": engine, "edition": data.edition}
spent = tables.costs(profile, data.edition, engine)
main = tables.main(kpis, spent, **where)
tables.publish(main, "main", profile, lambda: tables.caption("main", **where))
tables.publish(
    tables.controllers(kpis, **where, over_bau=True),
    "relative",
    profile,
    lambda: tables.caption("relative", **where),
)

# %% [markdown]
# What each costs to compute: a plan is solved anew every hour, a learned policy is trained once, then only evaluated.

# %%
if len(spent):
    tables.publish(spent, "costs", profile, lambda: tables.caption("costs", **where))

# %% [markdown]
# How much is there to gain at all? The bound is a linear programme over the whole year (or the test weeks), which knows
# the future and relaxes what is not linear: nobody can be below it, and it need not be reachable. Its own plan, carried
# out under the true physics, shows how loose it is; perfect MPC, what a day of exact forecasts is worth.

# %%
apart = tables.bounds(kpis, engine=engine, edition=data.edition)
if len(apart):
    of_both = {"engine": engine, "edition": data.edition, "split": "test"}
    tables.publish(apart, "bounds", profile, lambda: tables.caption("bounds", **of_both))

# %%
with labels.using("en"):
    place = labels.t(f"weeks.{split}")
    acting = main[~main["controller"].isin(tables.FORESIGHT)]  # who knows the future is a bound, no competitor
    serving = acting[acting["gate"]].sort_values(tables.COMPOSITE)
    failing = main[~main["gate"]]
    name_of = {index: labels.controller(row["controller"], row["variant"]) for index, row in main.iterrows()}
    sentences = []
    if len(serving):
        best = serving.iloc[0]
        sentences.append(
            f"On the {place}, {len(serving)} of {len(acting)} controllers serve their people. The lowest composite "
            f"among them is that of **{name_of[serving.index[0]]}**: {best[tables.COMPOSITE]:.3f} of BAU's."
        )
    rules = main[main["controller"].isin(["rule", "tuned_rule"])].sort_values(tables.COMPOSITE)
    arrival = main[main["controller"] == "charge_on_arrival"]
    if len(rules) and len(arrival):
        told = ", ".join(f"{name_of[index]} {row[tables.COMPOSITE]:.3f}" for index, row in rules.iterrows())
        sentences.append(
            f"Of the rules that spread the charge: {told}; charging on arrival with idle batteries "
            f"{arrival[tables.COMPOSITE].iloc[0]:.3f}. This is how much of the flexibility a rule uses or wastes."
        )
    service_of = tables.gate(tables.select(kpis, **where))
    for index, row in failing.iterrows():
        worst = service_of.loc[(row["controller"], row["variant"])]
        cycles = worst["appliance_cycles_served"]
        sentences.append(
            f"{name_of[index]} fails the gate: its worst seed meets {worst['ev_departures_met']:.1%} of the feasible "
            + ("departures" if pd.isna(cycles) else f"departures and runs {cycles:.1%} of the appliance cycles")
            + f", so its composite of {row[tables.COMPOSITE]:.3f} is no achievement."
        )
    learned = main[main["controller"].isin(comparison.LEARNERS)]
    for index, row in learned.iterrows():
        half = row.get(f"{tables.COMPOSITE}_half", float("nan"))
        spread = f" ± {half:.3f} over {row['seeds']} seeds" if row["seeds"] > 1 else " (one seed)"
        text = f"{name_of[index]} reaches {row[tables.COMPOSITE]:.3f}{spread}"
        if len(rules):  # the better of them is what learning has to beat
            against = row[tables.COMPOSITE] / rules[tables.COMPOSITE].iloc[0] - 1
            better = name_of[rules.index[0]]
            text += f", {abs(against):.1%} {'below' if against < 0 else 'above'} {better}"
        sentences.append(f"{text}.")
    if learned.empty:
        sentences.append("No learned policy lies in this profile's results yet: run notebook 02 and this one again.")
display(Markdown(" ".join(sentences)))

# %% [markdown]
# ## Term by term
#
# The composite hides which of its terms moved. Bars are ratios to BAU, so shorter is better; each learner's seeds
# are points, and rules, which have no seed, get no interval.

# %%
figures.publish("kpi_bars", kpis, profile=profile, **where)

# %% [markdown]
# ## Does it hold on weeks nobody trained on?
#
# Most rules were fitted to nothing, so their difference between parts of the year is the year's own doing; what a
# learned policy, the tuned rule or learned forecasts lose beyond that from left to right is what was learned by
# heart.

# %%
known = [name for name in splits.SPLITS if (kpis["split"] == name).any()]
serves = tables.gate(tables.select(kpis, **where))["passes"]
comparable = kpis[[bool(serves.get((c, v), False)) for c, v in zip(kpis["controller"], kpis["variant"], strict=True)]]
comparable = comparable if len(tables.keys(comparable)) > 1 else kpis
if len(known) > 1:
    figures.publish(
        "composite_by_split", comparable, profile=profile, engine=engine, edition=data.edition, splits=known
    )

# %% [markdown]
# ## Hour by hour
#
# From here on the figures show one community behind all curves, and six controllers at most: BAU, ours, the tuned
# rule, MARLISA, MADDPG and predictive control first, where they have rows. First the mean day, beside the load, the
# sun and the price that every controller faces alike.

# %%
env = dataset.load(data)
env.reset()
service = Service.from_citylearn(env)
community = Community.from_citylearn(env, dtype=torch.float64)
context = tables.context(community)
hourly = evaluation.read_hourly(profile, data.edition, engine)
few = comparison.few(tables.select(kpis, **where))  # as many as a figure of lines can hold
hourly = hourly[[pair in few for pair in zip(hourly["controller"], hourly["variant"], strict=True)]]
end_row = int(hourly["row"].max()) + 1
blocks = splits.blocks("test", end_row) or [(0, end_row)]
inside = pd.concat([hourly[hourly["row"].between(start, stop - 1)] for start, stop in blocks])
figures.publish("mean_day", inside, context, profile=profile, of=where)

# %%
with labels.using("en"):
    around = inside.assign(hour=inside["row"] % 24).groupby([*tables.KEY, "hour"])["net"].mean()
    lines = []
    for pair in tables.keys(inside):
        own = around.loc[pair]
        lines.append(
            f"{labels.controller(*pair)} peaks at {own.max():.1f} kW at hour {own.idxmax()} of its mean day "
            f"and is lowest, {own.min():.1f} kW, at hour {own.idxmin()}"
        )
display(Markdown("; ".join(lines) + "."))

# %% [markdown]
# Peaks are rare hours, which a mean day cannot show. The load duration curve sorts them all, and the right panel
# keeps the highest hundred: where a network is sized.

# %%
figures.publish("load_duration", inside, profile=profile, of=where)

# %% [markdown]
# How steep is the day? Each step from one hour to the next counts once; upward steps are what the ramping KPI sums.

# %%
figures.publish("ramping", inside, profile=profile, of=where)

# %% [markdown]
# And the hard week: of all test weeks, the one in which business as usual peaks highest.

# %%
figures.publish("hard_week", inside, context, blocks, profile=profile, of=where)

# %% [markdown]
# ## Who buys when it is cheap and clean?
#
# A flexible community should draw more in cheap and clean hours than in dear and dirty ones. Each point is a
# tenth of the hours, ordered by price on the left and by carbon intensity on the right.

# %%
figures.publish("price_response", inside, context, profile=profile, of=where)

# %% [markdown]
# ## The cars
#
# How full do cars leave? A margin far above zero is energy given away: what is in the battery at departure beyond
# the need is lost to the community. A margin below the dashed line is a driver let down. Whole year, seed 0.

# %%
pairs = tables.keys(evaluation.read_hourly(profile, data.edition, engine))
runs = {}
for pair in pairs:
    if pair[0] != "random" and evaluation.has_flows(profile, data.edition, *pair):
        runs[pair] = tables.replay(evaluation.read_flows(profile, data.edition, *pair), community)
shown = [tables.departures(run, service, *pair) for pair, run in runs.items() if pair in few]
departures = pd.concat(shown, ignore_index=True)
figures.publish("departure_margins", departures, profile=profile, of=where | {"split": "year"})

# %%
with labels.using("en"):
    feasible = departures[departures["feasible"]]
    margin = feasible.assign(margin=feasible["soc"] - feasible["required"])
    middle = margin.groupby(tables.KEY)["margin"].median()
    told = {pair: labels.number(100 * middle.loc[pair], 0, sign=True) for pair in tables.keys(margin)}
    lines = [f"{labels.controller(*pair)} {points}" for pair, points in told.items()]
display(Markdown(f"Median margin in points of charge: {'; '.join(lines)}."))

# %% [markdown]
# ## The homes
#
# A district can gain while a home loses. Each cell is what a home pays against business as usual, without any
# trade among homes: import is paid at the tariff, export earns nothing.

# %%
rows = [row for start, stop in blocks for row in range(start, stop)]
costs = pd.concat([tables.home_costs(run, community.home_names, *pair, rows) for pair, run in runs.items()])
failing = [pair for pair in runs if not serves.get(pair, True)]
figures.publish("home_heatmap", costs, failing, profile=profile, of=where)

# %%
with labels.using("en"):
    change = home_changes(costs)
    lines = [
        f"under {labels.controller(*pair)} {(row < 0).sum()} of {row.notna().sum()} homes pay less than under BAU"
        for pair, row in change.iterrows()
    ]
display(Markdown("Who gains: " + "; ".join(lines) + "."))

# %% [markdown]
# ## How far is the model from CityLearn?
#
# The policies were trained and validated in the fast model; the thesis quotes CityLearn. Both engines rolled the
# same controllers through the same hours, each in closed loop: any difference had the whole year to grow.

# %%
if {"model", "citylearn"} <= set(kpis["engine"]):
    distance = tables.engines(kpis, split=split, edition=data.edition)
    tables.publish(
        distance,
        "engines",
        profile,
        lambda: tables.caption("distance", split=split, edition=data.edition),
    )
    figures.publish("engine_distance", kpis, profile=profile, split=split, edition=data.edition)
    plans = distance["controller"].str.startswith("mpc_")
    with labels.using("en"):

        def told(rows: pd.DataFrame) -> str:
            """The largest difference of these rows, and where it is."""
            worst = rows.loc[rows["distance"].idxmax()]
            name = labels.controller(worst["controller"], worst["variant"])
            return f"{worst['distance']:.1e}, in {labels.kpi(worst['kpi']).lower()} of {name}"

        text = f"The largest difference is {told(distance[~plans])}: " + (
            "no conclusion of this notebook depends on the engine."
            if distance[~plans]["distance"].max() < figures.ENGINE_BAR
            else "too much to call the engines equal; look there before trusting the model."
        )
        if plans.any():
            text += (
                f" Of the plans it is {told(distance[plans])}: they are solved anew every hour, and where two cost "
                "nearly the same, what CityLearn's float32 storage rounds away decides between them. The same actions "
                "give the same year (`tests/test_model.py`)."
            )
else:
    text = "The profile asks for one engine only, so there is nothing to compare."
display(Markdown(text))

# %% [markdown]
# ## The learning curves of all seeds

# %%
ours = [(learner.CONTROLLER, variant) for variant in config.variants]
logs = evaluation.training_logs(profile, data.edition, ours)
if len(logs):
    validation = kpis[(kpis["split"] == "validation") & (kpis["kpi"] == tables.COMPOSITE) & (kpis["engine"] == engine)]
    rules = validation[validation["controller"].isin(["rule", "tuned_rule"])]
    references = dict(zip(rules["controller"], rules["value"], strict=True))
    of = where | {"split": "validation", "engine": "model"}  # in which learners are validated
    figures.publish("learning_curves", logs, references, profile=profile, of=of)

# %% [markdown]
# ## What follows
#
# `results/<profile>/kpis.csv` holds every row behind these figures, `run.json` what made them. The rules set the
# bar that learners, MARLISA and predictive control have to clear in the notebooks that follow, on the same
# weeks, behind the same gate, over the same denominator.

# %%
write_json_atomic(
    paths.results(profile) / "run.json",
    run_record(config, data, watch, seeds=list(seeds), engines=list(config.engines), rows=len(kpis)),
)
print(f"{len(kpis)} rows in results/{profile}/kpis.csv")
