# %% [markdown]
# # 07 · The claims, tested
#
# **What is asked.** An earlier guide to this community stated fifteen things as results. None had been measured. Here
# each is a hypothesis with a test whose criterion is the guide's own figure, and gets the verdict that the
# rows give it:
#
# | verdict | when |
# | --- | --- |
# | confirmed | the whole 95 % interval, or every part of the claim, meets the criterion |
# | refuted | the whole interval misses it, or one part does |
# | undecided | the interval holds both, or one seed alone is there |
# | not testable here | these data cannot say |
# | not yet measured | no rows yet; the text says whose |
#
# No verdict on a figure is typed: they are computed in `thesis_lib/analysis/claims.py`. Claims 3 and 4 are about what
# was published, and rest on the publication.

# %% tags=["parameters"] nbmake={"mock": {"profile": "test", "ablations": "test"}}
profile = "thesis"  # configs/<profile>.yaml; results go to a folder of this name
edition = ""  # official | offline | auto; empty: as the profile says
language = ""  # of what is shown here: es | en; empty: as the profile says
ablations = "ablations"  # the profile whose rows answer the questions about variants

# %%
import pandas as pd
from IPython.display import Markdown, display

from thesis_lib import paths
from thesis_lib.analysis import claims, evaluation, evidence, gap_figures, labels, learner, page, robustness, tables
from thesis_lib.analysis.ablations import told
from thesis_lib.community import dataset, splits
from thesis_lib.community.kpis import Service
from thesis_lib.community.model import Community
from thesis_lib.config import load_config
from thesis_lib.provenance import ensure_writable

config = load_config(profile)
labels.use(language or config.language)
page.use_style()
data = dataset.find(edition or config.edition)
ensure_writable(paths.results(profile))
env = dataset.load(data)
env.reset()
service, community = Service.from_citylearn(env), Community.from_citylearn(env)
thesis = evidence.Rows.read(profile, data.edition)
known = claims.Evidence(
    thesis=thesis,
    ablations=evidence.Rows.read(ablations, data.edition, ("model", "citylearn")),
    data=data,
    community=community,
    settings_alone=config.train | {"coordination": "none"},
    seeds=len(config.seeds),
)
ours = thesis.ours()
print(f"profile {profile}, {data.edition} edition, {thesis.split} rows of {thesis.engine}")
print(f"{len(thesis.kpis)} rows of {profile}, {len(known.ablations.kpis)} rows of {ablations}")
for name in dict.fromkeys((profile, ablations)):
    plan, troubled = load_config(name), robustness.read(name)[["variant", "seed", "recipe"]]
    old = gap_figures.outdated(troubled, lambda _, seed, plan=plan: robustness.recipe_of(plan, seed, data))
    if old := learner.outdated(plan, data) | old:
        display(Markdown(f"**Out of date** in {name}, of other settings, data or code than today's: {told(old)}."))

# %% [markdown]
# ## Fifteen verdicts

# %%
findings = claims.save(known, profile)
shown = claims.printed(findings)
left = {"selector": "td, th", "props": "text-align: left; vertical-align: top"}
room = enumerate((1, 8, 11, 18, 6, 12))  # for what is read beside the long names of the runs, which are broken anywhere
wide = [{"selector": f".col{column}", "props": f"min-width: {width}em"} for column, width in room]
broken = {"selector": ".col5", "props": "overflow-wrap: anywhere"}
display(shown.style.hide(axis="index").set_table_styles([left, *wide, broken]))

# %%
counts = pd.Series([found.verdict for found in findings.values()]).value_counts()
with labels.using("en"):
    texts = [f"{counts[name]} {labels.t(f'verdict.{name}')}" for name in claims.VERDICTS if name in counts]
display(Markdown(f"Of {len(findings)} claims: {', '.join(texts)}."))

# %% [markdown]
# ## What it comes to in a year
#
# Energy bought, money and CO₂ of the whole district, against charging on arrival, business as usual, and the untrained
# habits from which every learner starts. The whole year includes the weeks trained on; the savings of the test weeks,
# scaled to a year, do not. The last column is all there is: nobody saves more than the reference uses.

# %%
if ours is None:
    display(Markdown("**No rows of Cooperative MADDPG yet**, so no impact can be stated."))
else:
    impact = evidence.impact(thesis, ours)

    def words():
        """The caption, in the language in use."""
        return labels.t(
            "caption.impact",
            ours=labels.controller(*ours),
            seeds=len(thesis.values(ours)),
            engine=labels.t(f"engine.{thesis.engine}"),
            edition=labels.t(f"edition.{data.edition}"),
        )

    if len(impact):
        tables.publish(impact, "impact", profile, words)
        saved = impact.set_index(["base", "kpi"])["saved"].unstack("base")
        if {evidence.BAU[0], "habits"} <= set(saved):
            both = saved[[evidence.BAU[0], "habits"]].astype(float)
            of_habits = 1 - both["habits"] / both[evidence.BAU[0]]
            with labels.using("en"):
                parts = [
                    f"{labels.kpi(kpi).lower()} {share:.0%}, and learning adds "
                    f"{labels.number(both.loc[kpi, 'habits'], 0, sign=True)} "
                    f"{labels.unit({'import': 'kWh', 'cost': 'EUR', 'emissions': 'kg'}[kpi])}"
                    for kpi, share in of_habits.items()
                ]
            display(
                Markdown(
                    f"Of what is saved in the year against business as usual, the untrained habits already save: "
                    f"{'; '.join(parts)}. (Below zero, learning gives back some of it.)"
                )
            )
    absent = [base for base, _ in evidence.BASES if base not in set(impact["base"])]
    if absent:
        display(Markdown(f"**No rows yet** of {', '.join(absent)}."))

# %% [markdown]
# ## The thesis' indicators
#
# Peak, its hour, the load factor; how clean the cars' energy is; CO₂ avoided; how full the cars leave. Thermal
# comfort is not among them: the data have no thermal demand.

# %%
if thesis.selected().empty:
    display(Markdown("**No rows yet**: run notebook 03 of this profile."))
else:
    hourly = evaluation.read_hourly(profile, data.edition, thesis.engine)
    end = int(hourly["row"].max()) + 1
    inside = [row for start, stop in splits.blocks("test", end) for row in range(start, stop)]
    inside = pd.Series(inside if thesis.split == "test" else range(end), dtype=int).to_numpy()
    runs = {
        pair: tables.replay(flows, community)
        for pair in tables.keys(thesis.selected())
        if (flows := thesis.flows(pair)) is not None
    }
    found = evidence.indicators(thesis, hourly, runs, service, inside)

    def words():
        """The caption, in the language in use."""
        return labels.t(
            "caption.indicators",
            split=labels.t(f"weeks.{thesis.split}"),
            engine=labels.t(f"engine.{thesis.engine}"),
            edition=labels.t(f"edition.{data.edition}"),
        )

    tables.publish(found, "indicators", profile, words)

# %%
if not thesis.selected().empty and ours is not None:
    lines = found.set_index(tables.KEY)
    line = lines.loc[ours]

    def beside(column, form):
        """What the others that matter here have of it, where they are there."""
        pairs = [pair for pair in (evidence.BAU, ("habits", "default"), ("marlisa", "default")) if pair in lines.index]
        values = [(labels.controller(*pair), lines.loc[pair, column]) for pair in pairs]
        return ", ".join(f"{name} {value:{form}}" for name, value in values if pd.notna(value))

    with labels.using("en"):
        parts = [
            f"{labels.controller(*ours)} lowers the mean daily peak by {line['peak_reduction']:.1%} against business "
            f"as usual and moves the highest hour of the mean day by "
            f"{labels.number(line['hour_shift'], 0, sign=True)} h",
            f"the load factor is {line['load_factor']:.3f} ({beside('load_factor', '.3f')})",
            f"{line['co2_avoided']:,.0f} kg CO₂ are avoided on these weeks ({beside('co2_avoided', ',.0f')})",
        ]
        if pd.notna(line["clean_charging"]):
            clean = f"{line['clean_charging']:.0%} of the cars' energy is drawn in the cleaner half of the hours"
            parts.append(f"{clean} ({beside('clean_charging', '.0%')})")
        else:
            parts.append("how clean the cars' energy is waits for the flows of seed 0")
    display(Markdown("; ".join(parts) + ". Beside each, in brackets, what others reach."))

# %% [markdown]
# ## What follows
#
# `results/<profile>/tables/claims.csv` has each verdict with its figure, interval and the runs and commits it came
# from. `make thesis` and `make ablations` fill what is not yet measured; this notebook then says something else,
# without a word of it being changed.
