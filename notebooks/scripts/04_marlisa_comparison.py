# %% [markdown]
# # 04 · Against MARLISA, and against whoever does best
#
# **What is asked.** Does Cooperative MADDPG beat the learner that this thesis took as its model, MARLISA
# (Vázquez-Canteli, Henze and Nagy, BuildSys 2020), and every other serious alternative, on the same homes, the same
# weeks, the same service required, and by more than the luck of a seed?
#
# MARLISA is a multi-agent method: every building has an agent of its own, and they coordinate by passing on what they
# expect to consume. Where its rows are not there yet, the first cells say so, and the best comparator there is takes
# its place under its own name.

# %% tags=["parameters"] nbmake={"mock": {"profile": "test", "hours": 72, "make_missing": true}}
profile = "quick"  # configs/<profile>.yaml; results and figures go to folders of this name
edition = ""  # official | offline | auto; empty: as the profile says
language = ""  # of what is shown here: es | en; empty: as the profile says
comparator = "marlisa"  # whom we are compared with in detail; the best there is if it has no rows
hours = 0  # of the evaluation, from row 0; 0: the whole year
make_missing = False  # train one seed here (and roll business as usual), for trials; the pipeline does it side by side

# %%
import pandas as pd
import torch
from IPython.display import Markdown, display

from thesis_lib import paths
from thesis_lib.analysis import ablations, comparison, evaluation, evidence, figures, labels, learner, page, tables
from thesis_lib.analysis.hourly import home_changes
from thesis_lib.community import dataset, splits
from thesis_lib.community.model import Community
from thesis_lib.config import load_config
from thesis_lib.provenance import ensure_writable

config = load_config(profile)
labels.use(language or config.language)
page.use_style()
torch.set_num_threads(config.threads)
data = dataset.find(edition or config.edition)
ensure_writable(paths.results(profile))
print(f"profile {profile}, {data.edition} edition")
if hours:
    display(Markdown(f"**A trial of {hours} hours: what follows shows that everything runs, and is no result.**"))

# %% [markdown]
# ## Who is there

# %%
if make_missing:
    learner.learn(config, next(iter(config.variants)), config.seeds[0], data, end=hours or None)
found = evidence.Rows.read(profile, data.edition, tuple(config.engines))
kpis, where = found.kpis, found.where
engine, split = found.engine, found.split
if old := learner.outdated(config, data, hours or None):
    display(Markdown(f"**Out of date**, of other settings, data or code than today's: {ablations.told(old)}."))
if kpis.empty:
    raise evaluation.EvaluationError(f"results/{profile} holds no finished run: evaluate a controller first.")
rows = tables.select(kpis, **where)
passes = tables.gate(rows)["passes"]
ours = comparison.ours(rows)
rival = comparison.comparator(kpis, comparator, **where)
others = [pair for pair in tables.keys(rows) if pair != ours]
counts = rows[rows["kpi"] == tables.COMPOSITE].groupby(tables.KEY)["seed"].nunique()
told = []
with labels.using("en"):
    if ours is None:
        told.append("**No rows of Cooperative MADDPG yet**: run notebook 02; what follows shows the others alone.")
    else:
        told.append(f"Ours is {labels.controller(*ours)}, with {counts[ours]} of {len(config.seeds)} seeds.")
        if ours != comparison.OURS:
            told.append(f"The headline, {labels.controller(*comparison.OURS)}, has no rows yet.")
    absent = comparison.missing(rows)
    if absent:
        told.append(f"**No rows yet** of {', '.join(labels.controller(name) for name in absent)}.")
    if rival is None:
        told.append("There is nobody to compare with in detail.")
    elif rival[0] == comparator:
        told.append(f"The comparator is {labels.controller(*rival)}, with {counts[rival]} seed(s).")
    else:
        told.append(
            f"In place of {labels.controller(comparator)}, the detailed comparison is with "
            f"**{labels.controller(*rival)}**, the lowest composite among those that serve and do not know the future."
        )
display(Markdown(" ".join(told)))

# %% [markdown]
# ## How they learn
#
# Composite on the validation weeks against the wall clock and updates. Each learner stops at its own number of
# `updates` in the profile, chosen within the protocol's limit of 5 CPU minutes for one seed (docs/protocol.md says
# whose runs take longer, and why); a curve that still falls at its end says that the updates it was given, not the
# method, were the limit. An update of one learner is not that of another; a flat beginning is the warm-up of the
# critics (`critic_warmup`), while actors still do what the habits do.

# %%
curves = evaluation.training_logs(profile, data.edition, tables.keys(rows))
if len(curves):
    validation = kpis[(kpis["split"] == "validation") & (kpis["kpi"] == tables.COMPOSITE) & (kpis["engine"] == engine)]
    rules = validation[validation["controller"].isin(["rule", "tuned_rule", "habits"])]
    lines = dict(zip(rules["controller"], rules["value"], strict=True))
    of = where | {"split": "validation", "engine": "model"}  # in which learners are validated
    figures.publish("learning_curves", curves, lines, profile=profile, save_as="comparison_learning", of=of)
else:
    display(Markdown("**No learner has left its log yet.**"))

# %% [markdown]
# ## What each reaches
#
# The composite's mean with its t interval over seeds, and its interquartile mean (IQM) with its bootstrap interval; who
# fails the gate (at least 99 % of the feasible departures, every appliance cycle) stands last. Below, the means again,
# term by term.

# %%
reached = pd.concat([comparison.level(kpis, pair, **where) for pair in tables.keys(rows)], ignore_index=True)
reached = reached.drop(columns="pairs").sort_values("gate", ascending=False, kind="stable", ignore_index=True)
# Not kept: the table of the differences below holds the same values.
tables.publish(reached, "comparison_levels", None, lambda: tables.caption("levels", **where))

# %%
figures.publish("kpi_bars", kpis, profile=profile, save_as="comparison_kpis", **where)

# %% [markdown]
# ## One against another
#
# A difference is ours minus theirs on the composite, so below zero we are better. Learners are paired by seed;
# a controller without seeds has one value, and every seed of ours is compared with it. The same difference
# over the twelve test weeks asks whether another week, rather than another training, would tell the same. Holm's
# correction makes the p values count for the whole table. The probability of improvement is that of a seed of ours
# being below a seed of theirs.

# %%
weeks = comparison.weekly(profile, tables.keys(rows), engine=engine, edition=data.edition)
if ours and others:
    compared = comparison.compare(kpis, ours, others, weeks if len(weeks) else None, **where)

    def words(key="caption.compare", **names):
        """A table's caption, in the language in use."""
        parts = {"split": f"weeks.{split}", "engine": f"engine.{engine}", "edition": f"edition.{data.edition}"}
        return labels.t(key, ours=labels.controller(*ours), **names, **{k: labels.t(v) for k, v in parts.items()})

    both = pd.concat([comparison.level(kpis, ours, **where), comparison.printed(compared)], ignore_index=True)
    both = both.sort_values("gate", ascending=False, kind="stable", ignore_index=True)
    tables.publish(both, "comparison", profile, words)
    by_seed, by_week = comparison.differences(kpis, ours, others, weeks, **where)
    figures.publish("paired_differences", by_seed, by_week, compared, profile=profile, ours=ours, **where)
    display(Markdown("\n".join(f"- {text}" for text in comparison.sentences(compared, ours))))

# %% [markdown]
# ## Trained together, or each home by itself?
#
# arXiv 2602.19223 finds decentralised training ahead of central critics on CityLearn. So the better of the independent
# learners, whose homes train alone, stands here against those that do not: MARLISA, MADDPG, whose critics see all
# homes, and Cooperative MADDPG that hears nothing (local), or two sums (broadcast). Below zero training alone is
# better. Those that learn from replay and those that learn with the model's gradient are two different questions.

# %%
composite = rows[rows["kpi"] == tables.COMPOSITE].groupby(tables.KEY)["value"].mean()
apart = [pair for pair in tables.keys(rows) if pair[0] in ("independent_td3", "independent_sac")]
apart = sorted(apart, key=lambda pair: composite[pair])
own = [(comparison.OURS[0], name) for name in ("none", "broadcast")]
together = [pair for pair in [("marlisa", "default"), ("maddpg", "default"), *own] if pair in composite.index]
if apart and together:
    alone = comparison.compare(kpis, apart[0], together, weeks if len(weeks) else None, **where)
    place = {"split": f"weeks.{split}", "engine": f"engine.{engine}", "edition": f"edition.{data.edition}"}

    def said():
        """The table's caption, in the language in use."""
        return labels.t(
            "caption.decentralised", ours=labels.controller(*apart[0]), **{k: labels.t(v) for k, v in place.items()}
        )

    tables.publish(comparison.printed(alone), "comparison_decentralised", profile, said)
    display(Markdown("\n".join(f"- {text}" for text in comparison.sentences(alone, apart[0]))))
else:
    display(Markdown("**No rows yet** of a learner that trains alone, or of one that does not."))

# %% [markdown]
# ## Term by term against the comparator
#
# The composite hides which of its terms moved. All six are one family of tests.

# %%
if ours and rival:
    terms = comparison.compare(kpis, ours, [rival], names=(tables.COMPOSITE, *tables.TERMS), **where)
    kept = comparison.printed(terms).drop(columns=["difference_weeks", "p_weeks"])  # weeks: of the composite only
    tables.publish(
        kept,
        "comparison_terms",
        profile,
        lambda: words("caption.compare_terms", rival=labels.controller(*rival)),
    )
    display(Markdown("\n".join(f"- {text}" for text in comparison.sentences(terms, ours))))

# %% [markdown]
# ## A mean day and the hard week
#
# Ours, the comparator, MADDPG from replay and the better of the independent learners, where they have rows, with
# business as usual behind them.

# %%
shown = [(tables.BAU, "default")]
for pair in (rival, ours, *apart[:1], *(pair for pair in others if pair[0] == "maddpg")):
    if pair is not None and pair not in shown:
        shown.append(pair)
env = dataset.load(data)
env.reset()
community = Community.from_citylearn(env, dtype=torch.float64)
context = tables.context(community)
hourly = evaluation.read_hourly(profile, data.edition, engine)
hourly = hourly[[pair in shown for pair in zip(hourly["controller"], hourly["variant"], strict=True)]]
end_row = int(hourly["row"].max()) + 1
blocks = splits.blocks("test", end_row) or [(0, end_row)]
inside = pd.concat([hourly[hourly["row"].between(start, stop - 1)] for start, stop in blocks])
figures.publish("mean_day", inside, context, profile=profile, save_as="comparison_mean_day", of=where)

# %%
figures.publish("hard_week", inside, context, blocks, profile=profile, save_as="comparison_hard_week", of=where)

# %% [markdown]
# ## Winners and losers
#
# A district can gain while a home loses. Flows of each home are kept for seed 0 only, so this is one seed, on the
# test weeks, without any trade among homes.

# %%
costs = []
for pair in shown:
    if evaluation.has_flows(profile, data.edition, *pair):
        run = tables.replay(evaluation.read_flows(profile, data.edition, *pair), community)
        inside_rows = [row for start, stop in blocks for row in range(start, stop)]
        costs.append(tables.home_costs(run, community.home_names, *pair, inside_rows))
homes = pd.concat(costs, ignore_index=True) if costs else pd.DataFrame(columns=tables.KEY)
if len(tables.keys(homes)) > 1:
    failing = [pair for pair in shown if not passes[pair]]
    figures.publish("home_heatmap", homes, failing, profile=profile, save_as="comparison_homes", of=where)
    change = home_changes(homes)
    tables.publish(
        change.T.rename_axis("home")
        .reset_index()
        .set_axis(["home", *("/".join(pair) for pair in change.index)], axis="columns"),
        "comparison_homes",
        profile,
        lambda: tables.caption("homes", **where),
    )
    with labels.using("en"):
        texts = [
            f"under {labels.controller(*pair)} {(line < 0).sum()} of {line.notna().sum()} homes pay less than under "
            f"BAU, the best {labels.percent(line.min() / 100, 1, sign=True)}, "
            f"the worst {labels.percent(line.max() / 100, 1, sign=True)}"
            for pair, line in change.iterrows()
        ]
    display(Markdown("Who gains: " + "; ".join(texts) + "."))
else:
    display(Markdown("**No flows of each home yet** but those of business as usual: they are of seed 0."))

# %% [markdown]
# ## What follows

# %%
with labels.using("en"):
    if ours and rival:
        line = compared[(compared["controller"] == rival[0]) & (compared["variant"] == rival[1])].iloc[0].to_dict()
        apart = labels.difference(line["difference"], line["difference_half"])
        service = "both serve" if passes[ours] and passes[rival] else "but not both serve"
        text = (
            f"On the {labels.t(f'weeks.{split}')}, {labels.controller(*ours)} minus {labels.controller(*rival)} is "
            f"{apart} of BAU's composite, {comparison.verdict(line)}; {service}."
        )
        rivals = compared[compared["gate"] & ~compared["controller"].isin(tables.FORESIGHT)]
        worse = rivals[rivals["difference"] > 0]
        ahead = [labels.controller(*pair) for pair in worse[tables.KEY].itertuples(index=False)]
        text += " Of those that serve and do not know the future, "
        text += f"ahead of us: {', '.join(ahead)}." if ahead else "nobody is ahead of us."
        lost = terms[(terms["kpi"] != tables.COMPOSITE) & (terms["difference"] > 0)]
        lost = lost[lost["p_holm"] < comparison.SIGNIFICANT]
        told = [
            f"{labels.kpi(term['kpi']).lower()} ({labels.difference(term['difference'], term['difference_half'])})"
            for term in lost.to_dict("records")
        ]
        if told:
            text += f" Term by term it does worse than {labels.controller(*rival)} in {labels.listing(told)}."
        both = [pair for pair in (ours, rival) if len(tables.keys(homes)) > 1 and pair in change.index]
        if both:
            losers = [f"{(change.loc[pair] > 0).sum()} under {labels.controller(*pair)}" for pair in both]
            text += f" Homes that pay more than under business as usual (seed 0): {', '.join(losers)}."
    else:
        text = "Nothing can be concluded yet: see above who has no rows."
display(Markdown(text))
