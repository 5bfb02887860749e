# %% [markdown]
# # 06 · Ablations: what the result rests on
#
# **What is asked.** A good composite says that the whole works, not which part of it does. Here every variant differs
# from its reference in one thing and what has to go with it (a shorter horizon gets more updates in the same time),
# is trained with the same seeds, five where all have run, at the same short budget, and is judged on the weeks kept
# for testing; variants with bad meters share the reference's training. The thesis asks what the coordination
# architecture (O.E.1), the learning algorithm (O.E.2) and the priorities among objectives (O.E.3) do to the control
# of flexibility; after those come the service it must keep, what happens when meters fail or homes are new, and size.
#
# The budget is a fraction of the thesis' own, so the levels here are not the thesis' levels: only differences count.
# Policies are rolled in the fast model, whose distance to CityLearn notebook 03 measures.

# %% tags=["parameters"] nbmake={"mock": {"profile": "test", "hours": 72, "train_missing": true}}
profile = "ablations"  # configs/<profile>.yaml; results and figures go to folders of this name
edition = ""  # official | offline | auto; empty: as the profile says
language = ""  # of what is shown here: es | en; empty: as the profile says
seeds = []  # that should be there; empty: those of the profile
hours = 0  # of the evaluation, from row 0; 0: the whole year
train_missing = False  # train here what is missing, one after another; `make ablations` trains it side by side

# %%
from functools import partial

import pandas as pd
import torch
from IPython.display import Markdown, display

from thesis_lib import paths
from thesis_lib.analysis import (
    ablations,
    comparison,
    evaluation,
    gap,
    gap_figures,
    gradients,
    labels,
    learner,
    page,
    robustness,
    tables,
)
from thesis_lib.community import dataset
from thesis_lib.config import load_config
from thesis_lib.controllers import CONTROLLERS
from thesis_lib.provenance import ensure_writable, run_record, write_json_atomic

config = load_config(profile)
labels.use(language or config.language)
page.use_style()
torch.set_num_threads(config.threads)
seeds = seeds or config.seeds
data = dataset.find(edition or config.edition)
ensure_writable(paths.results(profile))
print(f"profile {profile}, {data.edition} edition, seeds {seeds}")
if hours:
    display(Markdown(f"**A trial of {hours} hours: what follows shows that everything runs, and is no result.**"))

# %% [markdown]
# ## What is there
#
# Each row of `results/<profile>/kpis.csv` names its variant and seed. What has no rows is left out below and named.

# %%
families = ablations.FAMILIES.values()
asked = dict.fromkeys(name for family in families for name in (family.reference, *family.variants))
everyone = dict.fromkeys([*asked, *ablations.SIZES])
if train_missing:
    for variant in everyone:
        for seed in seeds if variant in config.variants else []:
            learner.learn(config, variant, seed, data, end=hours or None)
for name in (evaluation.REFERENCE, "rule"):
    evaluation.evaluate_controller(
        name, "default", 0, CONTROLLERS[name], data, profile, config.engines, end=hours or None, progress=False
    )
kpis = evaluation.collect(profile)
kpis = kpis[kpis["edition"] == data.edition]
engine = "model" if "model" in config.engines else config.engines[0]
where = {"split": "test" if (kpis["split"] == "test").any() else "year", "engine": engine, "edition": data.edition}
gaps = ablations.missing(kpis, list(everyone), seeds, **where)
if old := learner.outdated(config, data, end=hours or None):
    display(Markdown(f"**Out of date**, of other settings, data or code than today's: {ablations.told(old)}."))
weeks = comparison.weekly(
    profile, [(learner.CONTROLLER, name) for name in asked], engine=engine, edition=data.edition
)
rule = tables.select(kpis[kpis["controller"] == "rule"], **where)
rule = rule.loc[rule["kpi"] == tables.COMPOSITE, "value"].iloc[0]
display(
    Markdown(
        f"{len(everyone) - len(gaps)} of {len(everyone)} variants are there with all of {len(seeds)} seed(s). For "
        f"orientation: business as usual has a composite of 1 by definition, the spread rule {rule:.3f}."
    )
)

# %% [markdown]
# ## How to read what follows
#
# A difference is taken seed by seed, variant minus reference: both begin from the same seed, and where they then see
# the same windows and weights, that luck cancels. Below zero the variant is better. Each point is a seed, the bar the
# 95 % t interval of their mean. Five seeds tell large differences from none, not small ones, and an interval that
# holds zero is no proof that nothing changed. p values are of the paired t test, and Holm's correction makes them
# count for the whole family; beside them, the same test over the twelve test weeks asks whether another week, rather
# than another training, would tell the same. A variant that fails the service gate is marked, because leaving cars
# empty is cheap.

# %% [markdown]
# ## O.E.1 · The coordination architecture
#
# Do homes need to hear of each other? From nothing at all, through two sums from an aggregator and what homes
# announce, to attention among all homes; and need each home an actor of its own?

# %%
ablations.publish("coordination", kpis, profile, seeds, weeks, **where)

# %% [markdown]
# And what does it cost when the sum of the uncontrolled net comes an hour late?

# %%
ablations.publish("latency", kpis, profile, seeds, weeks, **where)

# %% [markdown]
# ## O.E.2 · The learning algorithm
#
# The dial is $K$, the hours through which the reward's own gradient flows. $K = 0$ is MADDPG, where actors
# climb the critic and know nothing else; shorter rollouts get as many more updates as take about the same time. The
# last variant leaves the critic away instead, so that nothing values what comes after hour $K$. Everything else stays
# as it was chosen for $K = 48$, rates and optimiser too: what MADDPG reaches with its own settings is in notebook 03,
# and which of them it needs further down.

# %%
ablations.publish("horizon", kpis, profile, seeds, weeks, **where)

# %% [markdown]
# A team has one reward, and one critic is enough to estimate it. Does a reward for each home, or a critic for each,
# as in the paper, change anything?

# %%
ablations.publish("learning", kpis, profile, seeds, weeks, **where)

# %% [markdown]
# What the paper does not have, taken away one at a time: days put together anew, the share of the gradient that
# passes the guard, orthogonal steps, and learning rates that fall; and the habits that actors depart from (with
# broadcast: announcing needs them). A difference below zero says that the thesis' own would be better without it.

# %%
ablations.publish("training", kpis, profile, seeds, weeks, **where)
ablations.publish("start", kpis, profile, seeds, weeks, **where)

# %% [markdown]
# At $K = 0$, as in the paper: Ornstein-Uhlenbeck noise instead of Gaussian, and a critic for each agent.

# %%
ablations.publish("maddpg", kpis, profile, seeds, weeks, **where)

# %% [markdown]
# And with its own settings, those of notebook 03 but for fewer updates: what MADDPG here has and the paper's has not,
# taken back one at a time, and what its search found, moved to where a first guess would have put it.

# %%
ablations.publish("replay", kpis, profile, seeds, weeks, **where)

# %% [markdown]
# ## O.E.3 · The priorities among objectives
#
# The composite's weights are a choice. Here the reward's weights move from the bill (cost and emissions) to the grid
# (ramping, daily peak and import), and to single terms; the composite that judges stays the same, so a variant may
# lose on it and still be what somebody wants. The figure shows what each buys. A reward of one term alone need not buy
# most of that term: the actors then see only part of what moves the district, and a peak or a ramp is a rare signal.

# %%
ablations.publish("weights", kpis, profile, seeds, weeks, **where)

# %%
priorities = ["headline", *ablations.FAMILIES["weights"].variants]
if set(priorities) & set(kpis["variant"]):
    terms = ablations.ratios(kpis, priorities, **where)
    order = [name for name in (*ablations.FRONT, *priorities) if name in set(terms["variant"])]
    terms = pd.concat([terms[terms["variant"] == name] for name in dict.fromkeys(order)], ignore_index=True)
    page.publish(
        lambda: ablations.front(terms),
        lambda: ablations.front_caption(terms, **where),
        "ablation_front",
        profile,
        terms,
    )
    middle = terms.groupby("variant")[tables.TERMS].mean()
    with labels.using("en"):
        texts = [
            f"{labels.kpi(term).lower()} from {middle[term].min():.3f} ({labels.variant(middle[term].idxmin())}) to "
            f"{middle[term].max():.3f} ({labels.variant(middle[term].idxmax())})"
            for term in tables.TERMS
        ]
    display(Markdown(f"Over business as usual, the priorities move {'; '.join(texts)}."))

# %% [markdown]
# ## What service costs, and what the cars give back
#
# The guard raises a charging action when a departure would otherwise be missed. Without it a policy has to learn to
# keep its promises by itself, and nothing in the team reward asks for that. V2G lets a car give energy back; the
# comparison is fair only if both serve their drivers, so the table below shows service and wear beside the bill.

# %%
ablations.publish("service", kpis, profile, seeds, weeks, **where)

# %%
family = ablations.FAMILIES["service"]
served = ablations.learned(kpis, (family.reference, *family.variants), **where)
if len(served):
    shown = (tables.COMPOSITE, *tables.TERMS, *tables.SERVICE, "battery_cycles")
    table = tables.controllers(served, **where, names=shown)
    tables.publish(table, "ablation_service_kpis", profile, lambda: tables.caption("service_kpis", **where))
    back = {}
    for variant in dict.fromkeys(served["variant"]):
        if evaluation.has_flows(profile, data.edition, learner.CONTROLLER, variant):
            flows = evaluation.read_flows(profile, data.edition, learner.CONTROLLER, variant)
            back[variant] = ablations.exchanged(flows)[0]
    with labels.using("en"):
        texts = [f"{labels.variant(variant)} {energy + 0:,.0f} kWh" for variant, energy in back.items()]
    if texts:
        display(Markdown(f"Given back by the cars in the whole run of seed 0: {'; '.join(texts)}."))

# %% [markdown]
# ## When meters fail
#
# The policy is the reference's own, not trained anew: only what it sees changes. Noise is on what a home's own meters
# read (load, PV, net, states of charge), in standard deviations of each; where readings are lost, the home goes on
# with its last ones. Look at the departures first: the guard believes the state of charge that it reads, and the
# learner aims a hundredth above what counts as met, so noise there takes the service away long before it costs
# anything.

# %%
ablations.publish("meters", kpis, profile, seeds, weeks, **where)

# %% [markdown]
# Does a guard that aims higher give the service back? The variant that charges to the whole required SOC leaves five
# hundredths for what meters get wrong; what it costs with good meters stands in the table of the service.

# %%
ablations.publish("margin", kpis, profile, seeds, weeks, **where)

# %% [markdown]
# ## When homes drop out, and when the tariff moves
#
# The policy is the reference's own again. A home that drops out does as business as usual, and the others hear nothing
# of it; which ones do is drawn with the seed. A tariff that comes later than in the data, forecasts of it included, is
# one that nobody trained with: the composite is over business as usual that pays the same prices.
# `python -m thesis_lib.analysis.robustness` makes the rows.

# %%
if train_missing:
    for seed in seeds:
        robustness.measure(config, seed, data, end=hours or None)
troubled = robustness.read(profile)
made_from = troubled[["variant", "seed", "recipe"]]
if old := gap_figures.outdated(made_from, lambda _, seed: robustness.recipe_of(config, seed, data, hours or None)):
    display(Markdown(f"**Out of date**, of other settings, data or code than today's: {ablations.told(old)}."))
ablations.publish(robustness.FAMILY, troubled, profile, seeds, **where)

# %% [markdown]
# ## Homes nobody trained on
#
# Shared actors can act in a home they have never seen. They were trained on five or ten homes and act in all; the
# reference is the same shared actor trained on all of them. The composite is of all homes together; what the homes
# never seen pay stands below, beside what they pay under the reference.

# %%
ablations.publish("unseen", kpis, profile, seeds, weeks, **where)

# %%
texts = []
for variant in ablations.FAMILIES["unseen"].variants:
    pairs = ((learner.CONTROLLER, variant), (learner.CONTROLLER, "shared_actors"), (evaluation.REFERENCE, "default"))
    bills = [evaluation.read_bills(profile, data.edition, *pair, engine=engine, split=where["split"]) for pair in pairs]
    if any(bill.empty for bill in bills):
        continue
    trained = bills[-1].columns[: config.train_for(variant)["trained_homes"]]
    groups = ablations.cost_by_group(*bills, trained)
    words = partial(tables.caption, "groups", **where, homes=len(trained))
    tables.publish(groups, f"ablation_{variant}", profile, words)
    unseen = groups.set_index("group").loc["unseen"]
    texts.append(
        f"With {len(trained)} homes to train on, the homes never seen pay {unseen['cost_vs_bau']:.3f} of business as "
        f"usual's bill, and {unseen['cost_reference']:.3f} where the same actor was trained on all "
        f"({unseen['seeds']} seeds)."
    )
display(Markdown(" ".join(texts) or "No bills of a policy trained on some of the homes are there yet."))

# %% [markdown]
# ## Size
#
# The same homes, fewer or replicated with shifted loads, each size over business as usual of its own community. Time
# and memory are what a training process took on the machine named in each `run.json`; large communities roll fewer
# copies at once, so the time of one home in one rolled hour is the figure to compare, and even that grows where there
# are few copies to share an operation's cost. The largest community got a quarter of the updates: its composite says
# little about size.

# %%
size = ablations.sizes(profile, kpis, **where)
if len(size):
    tables.publish(size, "ablation_scale", profile, lambda: ablations.scale_caption(size, "scale_table", **where))
    page.publish(
        lambda: ablations.scale(size),
        lambda: ablations.scale_caption(size, **where),
        "ablation_scale",
        profile,
        size,
    )
    first, last = size.iloc[0], size.iloc[-1]
    if len(size) > 1:
        display(
            Markdown(
                f"From {first['homes']:.0f} to {last['homes']:.0f} homes, one home in one rolled hour takes "
                f"{first['microseconds']:.1f} to {last['microseconds']:.1f} µs."
            )
        )
absent = ablations.missing(kpis, ablations.SIZES, seeds, **where)
if absent:
    display(Markdown(f"**No rows yet:** {ablations.told(absent)}."))

# %% [markdown]
# ## The gap
#
# What the distance to the optimum is made of: the same learner, given in turn what it may not have. Trained on the
# very weeks it is judged on (generalisation), with exact forecasts of the next day (information: all, then the home's
# own net, the district's, and price with carbon), with a memory of the last day instead (what a home could really know
# of it), with every home seeing every home (decentralisation), with larger nets (function class), for longer
# (optimisation), and with all of it. Those that see test weeks, the future or every home could not be used, and none
# is a result; `python -m thesis_lib.analysis.gap` makes the rows.

# %%
rows = gap.read(profile)
if old := gap_figures.outdated(rows, lambda variant, seed: gap.recipe_of(config, variant, seed, data)):
    display(Markdown(f"**Out of date**, of other settings, data or code than today's: {ablations.told(old)}."))
if len(rows):
    summary = gap_figures.gap_summary(rows)
    given = summary.rename(columns={"variant": "privilege"})
    caption = partial(gap_figures.gap_caption, summary, data.edition)
    tables.publish(given, "gap", profile, partial(caption, "gap_table"))
    page.publish(lambda: gap_figures.gap_figure(rows), caption, "gap", profile, summary)
    test = summary.set_index("variant")["test"]
    with labels.using("en"):
        parts = [f"{labels.t(f'gap.{name}').lower()} {test[name] - test['headline']:+.3f}" for name in test.index[1:]]
    display(
        Markdown(
            f"Against the thesis' own on the test weeks: {'; '.join(parts)}. They overlap, and what is lifted together "
            "is no sum and no bound of the parts."
        )
    )
else:
    display(Markdown("**No rows yet:** `python -m thesis_lib.analysis.gap` makes them."))

# %% [markdown]
# ## Why the horizon matters
#
# MADDPG (K = 0) knows the reward's gradient only through its critic. Here actors stand still, a critic is trained for
# as long as any other horizon's, and the actor's gradient is set beside the exact one. The cosine of the mean over
# all batches shows the bias, that of one batch the noise too. `python -m thesis_lib.analysis.gradients` makes the
# rows.

# %%
rows = gradients.read(profile)
if old := gap_figures.outdated(rows, lambda horizon, seed: gradients.recipe_of(config, seed, data)):
    display(Markdown(f"**Out of date**, of other settings, data or code than today's: {ablations.told(old)}."))
if len(rows):
    summary = gap_figures.gradients_summary(rows)
    caption = partial(gap_figures.gradients_caption, summary, data.edition)
    tables.publish(summary, "gradients", profile, partial(caption, "gradients_table"))
    page.publish(lambda: gap_figures.gradients_figure(rows), caption, "gradients", profile, summary)
    cosine = summary.set_index("horizon")["cosine_mean"]
    learned = cosine[cosine.index < gradients.EXACT]
    display(
        Markdown(
            f"The mean gradient's cosine to the exact one is {cosine.iloc[0]:.2f} at K = {cosine.index[0]} and "
            f"{learned.iloc[-1]:.2f} at K = {learned.index[-1]}."
        )
    )
else:
    display(Markdown("**No rows yet:** `python -m thesis_lib.analysis.gradients` makes them."))

# %% [markdown]
# ## What follows
#
# The tables and figures above are in `results/<profile>/tables/` and `figures/<profile>/`, with the numbers each
# figure was drawn from beside it. `make ablations` trains what is missing and runs this notebook again; seeds whose
# rows were made by the same settings, data and code are not trained again.

# %%
write_json_atomic(
    paths.results(profile) / "run.json",
    run_record(config, data, seeds=list(seeds), engines=[engine], rows=len(kpis), missing=gaps),
)
print(f"{len(kpis)} rows in results/{profile}/kpis.csv")
