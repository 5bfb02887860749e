# %% [markdown]
# # 05 · Deployment: how long a decision takes
#
# **What is asked.** A policy that takes longer to answer than the homes can wait is of no use, and one that needs a
# training machine to run is hard to put anywhere. How fast is the policy alone, in which form should it be served, what
# does the service around it cost, and what does it take in memory and on disk?
#
# Seed 0 is measured, the one declared beforehand as the one that is served. All times are of this machine in this run.

# %% tags=["parameters"] nbmake={"mock": {"profile": "test", "times": 20, "seconds": 0.5, "compiled": false}}
profile = "thesis"  # results and figures go to folders of this name
edition = ""  # official | offline | auto; empty: as the profile says
language = ""  # of what is shown here: es | en; empty: as the profile says
variants = ["broadcast", "none", "announce"]  # of models/; the first one is served, none has a graph for each home
times = 2000  # runs of each measurement
seconds = 10.0  # of load at each rate (s)
rates = [100, 300, 500, 1000]  # requests a second
batches = [1, 8, 64, 512]  # decisions at once
threads = [1, 2]  # of one inference
compiled = True  # measure torch.compile too; needs a C++ compiler

# %%
import pandas as pd
import torch
from IPython.display import Markdown, display

from thesis_lib import paths
from thesis_lib.analysis import labels, page, tables
from thesis_lib.community import dataset
from thesis_lib.community.model import Community
from thesis_lib.config import load_config
from thesis_lib.provenance import Stopwatch, ensure_writable, run_record, write_csv_atomic, write_json_atomic
from thesis_lib.serving import latency
from thesis_lib.serving.policy import ServedPolicy

config = load_config(profile)
labels.use(language or config.language)
page.use_style()
data = dataset.find(edition or config.edition)
community = Community.from_citylearn(dataset.load(data), dtype=torch.float32)
folders = {variant: paths.ROOT / "models" / variant for variant in variants}
folder_of_tables = ensure_writable(paths.tables(profile))
watch, machine = Stopwatch(), latency.machine()
print(f"profile {profile}, {data.edition} edition, models {', '.join(variants)}")
if seconds < 5:
    display(Markdown("**A trial with few repetitions: what follows shows that everything runs, and is no result.**"))

# %% [markdown]
# ## The model alone
#
# One decision for all homes, one thread: the network as it was trained, compiled, as one ONNX graph (normaliser, all
# actors, habits, guard and bounds inside), and, for the strictly local variant, as one graph a home, summed over homes;
# the network in torch on the GPU too, where one is present. The figure is of that variant alone.

# %%
measured = {}
with watch("forms"):
    found = [
        latency.forms(folders[variant], community, times, compiled).assign(variant=variant) for variant in variants
    ]
measured["forms"] = pd.concat(found, ignore_index=True)[["variant", "form", "p50_us", "p99_us"]]
display(measured["forms"])
shown = latency.of_one_variant(measured["forms"])  # of none where it is there: it alone has graphs of the homes
page.publish(
    lambda: latency.forms_figure(shown),
    lambda: latency.forms_caption(shown, community.homes, machine),
    "latency_forms",
    profile,
    shown,
)

# %% [markdown]
# ## Many decisions at once

# %%
with watch("batches"):
    measured["batches"] = latency.batches(folders[variants[0]], community, batches, threads, times)
display(measured["batches"])

# %% [markdown]
# ## The service
#
# A process of its own, asked over HTTP on this machine. Requests leave when they are due, answered or not, and their
# time counts from then: a service that falls behind cannot hide it. After the fixed rates the rate rises by a fifth at
# a time until requests fail, fewer than 99 % are answered as fast as they come, or their 99th percentile passes 100 ms;
# the highest rate told is the last one that also holds five times as long.
#
# The parts of a request are means at 500 a second: the service's own metrics say what it spent, the client's writing
# and reading of JSON is timed apart, and the rest is HTTP, the loopback and waiting.

# %%
with watch("service"):
    measured["rates"], measured["parts"], about = latency.service(folders[variants[0]], community, rates, seconds)
tables.publish(
    measured["rates"],
    "latency_rates",
    profile,
    lambda: latency.rates_caption(measured["rates"], variants[0], machine),
)
for name, draw, words in (
    ("rates", latency.rates_figure, latency.rates_caption),
    ("parts", latency.parts_figure, latency.parts_caption),
):
    table = measured[name]
    page.publish(
        lambda draw=draw, table=table: draw(table),
        lambda words=words, table=table: words(table, variants[0], machine),
        f"latency_{name}",
        profile,
        table,
    )
display(measured["parts"])

# %% [markdown]
# ## Memory, start-up and files

# %%
display(pd.DataFrame([about]))
measured["image"] = latency.image(paths.ROOT)
display(measured["image"])
measured["sizes"] = pd.concat(
    [latency.sizes(folder).assign(variant=variant) for variant, folder in folders.items()], ignore_index=True
)[["variant", "file", "kB"]]
display(measured["sizes"])

# %% [markdown]
# ## Beside the targets and the earlier system
#
# The targets are for two cores. What the earlier system said of itself is in its guide and was not measured here.

# %%
if 500 in rates:
    alone = measured["forms"].set_index(["variant", "form"]).p50_us[variants[0], "onnx"]
    measured["beside"] = latency.beside(alone, about, round(float(measured["image"].MB.sum()), 1))
    tables.publish(
        measured["beside"], "latency_beside", profile, lambda: latency.beside_caption(variants[0], machine)
    )

# %%
for name, table in measured.items():
    write_csv_atomic(folder_of_tables / f"latency_{name}.csv", table)
record = run_record(
    config,
    data,
    watch,
    seeds=[0],
    device=latency.devices()[-1],
    parameters={"times": times, "seconds": seconds, "threads": machine["threads"]},
    models={variant: ServedPolicy(folder / "policy.onnx").version for variant, folder in folders.items()},
    service=about,
)
write_json_atomic(paths.results(profile) / "latency.json", record)
slow = measured["forms"].set_index(["variant", "form"]).p50_us
ratio = slow[variants[0], "eager"] / slow[variants[0], "onnx"]
display(
    Markdown(
        f"The ONNX graph of `{variants[0]}` decides for all homes in {slow[variants[0], 'onnx']:.0f} µs (median), "
        f"{ratio:.1f} times faster than the same network in torch; the service holds {about['rss_mb']:.0f} MB and was "
        f"ready {about['ready_s']:.1f} s after its start."
    )
)
