# The pipeline: one rule per notebook, one for each controller's run, one for each seed of each variant.
#
#   make quick        or by hand:  python -m snakemake --workflow-profile profiles/local --config profile=quick
#   make ablations                 python -m snakemake ablations --workflow-profile profiles/local --config profile=ablations
#
# A run is made if its rows were not made by today's recipe (settings, data, code: see provenance.recipe), whatever the
# files' times say: git gives all of them the time of the checkout. Only notebooks go by time.
#
# Results are marked update(), so that the earlier ones stay until a job has replaced them. Executed notebooks and
# checkpoints are not declared at all: Snakemake would remove them when a job starts or fails, and a failed notebook
# is there to be read, a checkpoint to be resumed from.
import os
import shutil
import sys
from pathlib import Path

from thesis_lib import paths
from thesis_lib.analysis import evaluation, learner, optimum
from thesis_lib.community import dataset
from thesis_lib.config import ConfigError, load_config
from thesis_lib.controllers import LEARNERS

OVERRIDES = ("edition", "seeds")
try:
    for key in config:
        if key not in ("profile", *OVERRIDES):
            raise ConfigError(f"unknown --config key '{key}'; allowed are profile, {', '.join(OVERRIDES)}")
    CONFIG = load_config(config.get("profile", "quick"), **{key: config[key] for key in OVERRIDES if key in config})
    DATA = dataset.find(CONFIG.edition)
except (ConfigError, dataset.DatasetError) as error:
    sys.exit(f"error: {error}")
PROFILE, EDITION = CONFIG.profile, DATA.edition
print(f"profile {PROFILE}, {EDITION} edition, seeds {CONFIG.seeds}, variants {list(CONFIG.variants)}", file=sys.stderr)

RESULTS = f"results/{PROFILE}"
SETTINGS = f"configs/{PROFILE}.yaml"
LIBRARY = sorted(file.as_posix() for file in Path("thesis_lib").rglob("*.py"))
GPU = int(CONFIG.device.startswith("cuda") or (CONFIG.device == "auto" and shutil.which("nvidia-smi") is not None))
PYTHON = f'"{Path(sys.executable).as_posix()}" -m'
RUN = f"{PYTHON} thesis_lib.notebooks run"
COMMON = f"--profile {PROFILE} --parameter edition={EDITION} --parameter language={CONFIG.language}"
WHERE = f"--profile {PROFILE} --edition {EDITION} --seed {{wildcards.seed}}"


ROWS = f"{RESULTS}/runs/{EDITION}/{{controller}}/{{variant}}/seed_{{seed}}/kpis.csv"  # of one run


def rows(controller, variant, seed):
    return ROWS.format(controller=controller, variant=variant, seed=seed)


def reference(homes=0):
    """The rows of business as usual, of the data set's homes or of as many."""
    return rows(evaluation.REFERENCE, evaluation.variant_of(homes), 0)


def waits(controller, variant, seed):
    """What has to be there before a run: of any age if today's recipe made its rows, else newer than they are."""
    if controller == learner.CONTROLLER:
        recipe = learner.recipe(CONFIG, variant, int(seed), DATA)
        before = [reference(learner.homes_of(CONFIG, variant))]
        if (shared := learner.trained_as(CONFIG, variant)) != variant:
            before.append(rows(controller, shared, seed))
    elif controller in LEARNERS:
        recipe = learner.recipe(CONFIG, variant, int(seed), DATA, controller=controller)
        before = [reference()]
    elif controller == optimum.CONTROLLER:
        recipe, before = optimum.recipe(CONFIG, DATA), [reference()]
        if variant == optimum.REPLAY:  # rolled in the profile's engines
            how = {"settings": optimum._settings(CONFIG), "code": optimum.CODE}
            recipe = evaluation.recipe_of(controller, 0, DATA, CONFIG.engines, **how)
    else:
        homes = 0 if variant == "default" else int(variant.removeprefix("homes_"))
        settings = evaluation.settings_of(controller, int(seed))
        recipe = evaluation.recipe_of(controller, int(seed), DATA, CONFIG.engines, settings, homes=homes)
        before = [] if controller == evaluation.REFERENCE else [reference(homes)]
    file = Path(rows(controller, variant, seed))
    if evaluation.recorded_recipe(file.parent) == recipe:
        return [ancient(name) for name in before]
    if file.is_file():
        os.utime(file, (1, 1))  # older than the profile
    return [*before, SETTINGS]


OF_LEARNER = rows(learner.CONTROLLER, "{variant}", "{seed}")
RULES = [(name, "default", seed) for name in CONFIG.controllers for seed in (CONFIG.seeds if name == "random" else [0])]
SIZES = sorted({learner.homes_of(CONFIG, variant) for variant in CONFIG.variants} - {0})
TRAINED = [(learner.CONTROLLER, variant, seed) for variant in CONFIG.variants for seed in CONFIG.seeds]
COMPARED = [(name, "default", seed) for name in CONFIG.learners for seed in CONFIG.seeds]
# Minutes, and the year is needed.
OPTIMUM = [(optimum.CONTROLLER, kind, 0) for kind in (optimum.BOUND, optimum.REPLAY)] if PROFILE == "thesis" else []
for run in [*RULES, *COMPARED, *OPTIMUM, *((evaluation.REFERENCE, evaluation.variant_of(homes), 0) for homes in SIZES), *TRAINED]:
    waits(*run)  # all of them, before Snakemake looks at the time of any
SHOWN = [f"{RESULTS}/reports/02_training_{variant}_seed_{CONFIG.seeds[0]}.html" for variant in CONFIG.variants]

wildcard_constraints:
    controller="|".join(CONFIG.controllers),
    seed=r"\d+",
    variant=r"[A-Za-z0-9_.-]+",

localrules: all

rule all:
    input:
        f"{RESULTS}/reports/01_data_exploration.html",
        SHOWN,
        f"{RESULTS}/reports/03_baselines.html",
        f"{RESULTS}/reports/04_marlisa_comparison.html",
        f"{RESULTS}/reports/07_claims.html",
        f"{RESULTS}/reports/readme.txt" if PROFILE == "thesis" else [],  # the READMEs show the thesis' own rows

rule data_exploration:
    input:
        "notebooks/scripts/01_data_exploration.py", SETTINGS, LIBRARY
    output:
        update(f"{RESULTS}/reports/01_data_exploration.html")
    shell:
        f"{RUN} 01_data_exploration {COMMON}"

# Notebook 03 finds these rows; a rule of their own, so that they are rolled while others train.
rule controller:
    input:
        lambda run: waits(run.controller, run.variant, run.seed)
    output:
        update(ROWS)
    params:
        homes=lambda run: run.variant.removeprefix("homes_").replace("default", "0")
    wildcard_constraints:
        variant=r"default|homes_\d+"
    shell:
        f"{PYTHON} thesis_lib.analysis.evaluation {{wildcards.controller}} --homes {{params.homes}} {WHERE}"

rule learner:
    input:
        lambda run: waits(learner.CONTROLLER, run.variant, run.seed)
    output:
        update(OF_LEARNER)
    threads: CONFIG.threads
    priority: 1  # the longest job first
    resources:
        gpu=GPU
    shell:
        f"{PYTHON} thesis_lib.analysis.learner {{wildcards.variant}} {WHERE}"

rule compared_learner:
    input:
        lambda run: waits(run.learner, "default", run.seed)
    output:
        update(rows("{learner}", "default", "{seed}"))
    threads: CONFIG.threads
    priority: 1
    resources:
        gpu=GPU
    wildcard_constraints:
        learner="|".join(LEARNERS)
    shell:
        f"{PYTHON} thesis_lib.analysis.learner --controller {{wildcards.learner}} {WHERE}"

rule optimum:
    input:
        [name for run in OPTIMUM for name in waits(*run)]
    output:
        update(rows(optimum.CONTROLLER, optimum.BOUND, 0)),
        update(rows(optimum.CONTROLLER, optimum.REPLAY, 0))
    priority: 2
    shell:
        f"{PYTHON} thesis_lib.analysis.optimum --profile {PROFILE} --edition {EDITION}"

rule training:
    input:
        "notebooks/scripts/02_training.py", SETTINGS, LIBRARY, OF_LEARNER
    output:
        update(f"{RESULTS}/reports/02_training_{{variant}}_seed_{{seed}}.html")
    shell:
        f"{RUN} 02_training {COMMON} --parameter variant={{wildcards.variant}} --parameter seed={{wildcards.seed}}"
        f" --save-as 02_training_{{wildcards.variant}}_seed_{{wildcards.seed}}"

rule baselines:
    input:
        "notebooks/scripts/03_baselines.py", SETTINGS, LIBRARY, [rows(*run) for run in RULES + COMPARED + OPTIMUM + TRAINED]
    output:
        update(f"{RESULTS}/reports/03_baselines.html"),
        update(f"{RESULTS}/kpis.csv")
    shell:
        f"{RUN} 03_baselines {COMMON}"

rule comparison:
    input:
        "notebooks/scripts/04_marlisa_comparison.py", SETTINGS, LIBRARY, f"{RESULTS}/kpis.csv"
    output:
        update(f"{RESULTS}/reports/04_marlisa_comparison.html")
    shell:
        f"{RUN} 04_marlisa_comparison {COMMON}"

# Times mean something on a machine that does nothing else: a target of its own, not among `all`. The latency.json that
# it leaves is not declared: the claims read it, and Snakemake would measure it anew for them.
rule latency:
    input:
        "notebooks/scripts/05_deployment_latency.py", SETTINGS, LIBRARY, sorted(Path("models").rglob("*.onnx"))
    output:
        update(f"{RESULTS}/reports/05_deployment_latency.html")
    shell:
        f"{RUN} 05_deployment_latency {COMMON}"

# The rows of the ablations and the latencies are read too, if they are there: what has none is told as not yet measured.
rule claims:
    input:
        "notebooks/scripts/07_claims.py", SETTINGS, LIBRARY, f"{RESULTS}/kpis.csv",
        [run.as_posix() for run in Path(f"results/ablations/runs/{EDITION}").glob("*/*/seed_*/run.json")],
        [name for name in [f"{RESULTS}/latency.json", "results/ablations/robustness.csv"] if Path(name).is_file()]
    output:
        update(f"{RESULTS}/reports/07_claims.html")
    shell:
        f"{RUN} 07_claims {COMMON}"

rule readme:
    input:
        LIBRARY, f"{RESULTS}/kpis.csv", f"{RESULTS}/reports/03_baselines.html"
    output:
        update(f"{RESULTS}/reports/readme.txt")
    shell:
        f"{PYTHON} thesis_lib.analysis.readme --profile {PROFILE} > {{output}}"

# What the distance to the optimum is made of, and what is left of the policy in trouble. By time, but what is there by
# today's recipe is only read.
rule gap:
    input:
        SETTINGS, LIBRARY
    output:
        update(f"{RESULTS}/{{what}}.csv")
    wildcard_constraints:
        what="gap|gradients|robustness"
    resources:
        gpu=GPU
    shell:
        f"{PYTHON} thesis_lib.analysis.{{wildcards.what}} --profile {PROFILE}"

rule ablations:
    input:
        "notebooks/scripts/06_ablations.py", SETTINGS, LIBRARY, reference(), rows("rule", "default", 0),
        [rows(*run) for run in TRAINED],
        [f"{RESULTS}/{what}.csv" for what in ("gap", "gradients", "robustness")] if PROFILE == "ablations" else []
    output:
        update(f"{RESULTS}/reports/06_ablations.html")
    shell:
        f"{RUN} 06_ablations {COMMON}"
