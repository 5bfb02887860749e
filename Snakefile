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
from thesis_lib.analysis import evaluation, learner
from thesis_lib.community import dataset
from thesis_lib.config import ConfigError, load_config

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


def unless_made_from(recipe, file):
    """Nothing to wait for if the rows are of this recipe; else the profile, and the rows count as older than it."""
    if evaluation.recorded_recipe(Path(file).parent) == recipe:
        return []
    if Path(file).is_file():
        os.utime(file, (1, 1))
    return [SETTINGS]


def homes_of(run):
    return 0 if run.variant == "default" else int(run.variant.removeprefix("homes_"))


def of_controller(run):
    homes = homes_of(run)
    settings = evaluation.settings_of(run.controller, int(run.seed))
    recipe = evaluation.recipe_of(run.controller, int(run.seed), DATA, CONFIG.engines, settings, homes=homes)
    before = [] if run.controller == evaluation.REFERENCE else [ancient(reference(homes))]
    return before + unless_made_from(recipe, rows(run.controller, run.variant, run.seed))


def of_learner(run):
    before = [ancient(reference(learner.homes_of(CONFIG, run.variant)))]
    if (shared := learner.trained_as(CONFIG, run.variant)) != run.variant:
        before.append(ancient(rows(learner.CONTROLLER, shared, run.seed)))
    recipe = learner.recipe(CONFIG, run.variant, int(run.seed), DATA)
    return before + unless_made_from(recipe, rows(learner.CONTROLLER, run.variant, run.seed))


OF_LEARNER = rows(learner.CONTROLLER, "{variant}", "{seed}")
RULES = [rows(name, "default", seed) for name in CONFIG.controllers for seed in (CONFIG.seeds if name == "random" else [0])]
TRAINED = [rows(learner.CONTROLLER, variant, seed) for variant in CONFIG.variants for seed in CONFIG.seeds]
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
        of_controller
    output:
        update(ROWS)
    params:
        homes=homes_of
    wildcard_constraints:
        variant=r"default|homes_\d+"
    shell:
        f"{PYTHON} thesis_lib.analysis.evaluation {{wildcards.controller}} --homes {{params.homes}} {WHERE}"

rule learner:
    input:
        of_learner
    output:
        update(OF_LEARNER)
    threads: CONFIG.threads
    priority: 1  # the longest job first
    resources:
        gpu=GPU
    shell:
        f"{PYTHON} thesis_lib.analysis.learner {{wildcards.variant}} {WHERE}"

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
        "notebooks/scripts/03_baselines.py", SETTINGS, LIBRARY, RULES, TRAINED
    output:
        update(f"{RESULTS}/reports/03_baselines.html"),
        update(f"{RESULTS}/kpis.csv")
    shell:
        f"{RUN} 03_baselines {COMMON}"

rule ablations:
    input:
        "notebooks/scripts/06_ablations.py", SETTINGS, LIBRARY, reference(), rows("rule", "default", 0), TRAINED
    output:
        update(f"{RESULTS}/reports/06_ablations.html")
    shell:
        f"{RUN} 06_ablations {COMMON}"
