# The pipeline: one rule per notebook, seeds and variants as wildcards.
#
#   make quick        or by hand:  python -m snakemake --workflow-profile profiles/local --config profile=quick
#
# Results are marked update(), so that the earlier ones stay until a job has replaced them. Executed notebooks and
# checkpoints are not declared at all: Snakemake would remove them when a job starts or fails, and a failed notebook
# is there to be read, a checkpoint to be resumed from.
# On another machine, `--touch` takes the results that git brought as up to date.
import re
import shutil
import sys
from pathlib import Path

from thesis_lib.community import dataset
from thesis_lib.config import ConfigError, load_config

OVERRIDES = ("edition", "seeds")
try:
    for key in config:
        if key not in ("profile", *OVERRIDES):
            raise ConfigError(f"unknown --config key '{key}'; allowed are profile, {', '.join(OVERRIDES)}")
    CONFIG = load_config(config.get("profile", "quick"), **{key: config[key] for key in OVERRIDES if key in config})
    EDITION = dataset.find(CONFIG.edition).edition
except (ConfigError, dataset.DatasetError) as error:
    sys.exit(f"error: {error}")
PROFILE = CONFIG.profile
print(f"profile {PROFILE}, {EDITION} edition, seeds {CONFIG.seeds}, variants {list(CONFIG.variants)}", file=sys.stderr)

RESULTS = f"results/{PROFILE}"
RUNS = f"{RESULTS}/runs/{EDITION}"
LEARNER = f"{RUNS}/cooperative_maddpg"
REFERENCE = f"{RUNS}/business_as_usual/default/seed_0/kpis.csv"
SEEDS_OF = lambda controller: CONFIG.seeds if controller == "random" else [0]
RULES = [f"{RUNS}/{name}/default/seed_{seed}/kpis.csv" for name in CONFIG.controllers for seed in SEEDS_OF(name)]
# Everything a result depends on; how a figure looks is no reason to train again.
LIBRARY = sorted(file.as_posix() for file in Path("thesis_lib").rglob("*.py"))
LEARNING = [file for file in LIBRARY if not re.search(r"analysis/(figures|tables|labels)\.py|serving/", file)]
SETTINGS = f"configs/{PROFILE}.yaml"
GPU = int(CONFIG.device.startswith("cuda") or (CONFIG.device == "auto" and shutil.which("nvidia-smi") is not None))
RUN = f'"{Path(sys.executable).as_posix()}" -m thesis_lib.notebooks run'
COMMON = f"--profile {PROFILE} --parameter edition={EDITION} --parameter language={CONFIG.language}"

wildcard_constraints:
    controller="|".join(CONFIG.controllers),
    seed=r"\d+",
    variant=r"[A-Za-z0-9_.-]+",

localrules: all

rule all:
    input:
        f"{RESULTS}/reports/01_data_exploration.html",
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
        SETTINGS, LEARNING,
        reference=lambda wildcards: [] if wildcards.controller == "business_as_usual" else REFERENCE
    output:
        update(f"{RUNS}/{{controller}}/default/seed_{{seed}}/kpis.csv")
    shell:
        f'"{Path(sys.executable).as_posix()}" -m thesis_lib.analysis.evaluation {{wildcards.controller}}'
        f" --profile {PROFILE} --edition {EDITION} --seed {{wildcards.seed}}"

rule training:
    input:
        "notebooks/scripts/02_training.py", SETTINGS, LEARNING, REFERENCE
    output:
        update(f"{LEARNER}/{{variant}}/seed_{{seed}}/kpis.csv")
    threads: CONFIG.threads
    priority: 1  # the longest job first
    resources:
        gpu=GPU
    shell:
        f"{RUN} 02_training {COMMON} --parameter variant={{wildcards.variant}} --parameter seed={{wildcards.seed}}"
        f" --save-as 02_training_{{wildcards.variant}}_seed_{{wildcards.seed}}"

rule baselines:
    input:
        "notebooks/scripts/03_baselines.py", SETTINGS, LIBRARY,
        RULES, expand(f"{LEARNER}/{{variant}}/seed_{{seed}}/kpis.csv", variant=CONFIG.variants, seed=CONFIG.seeds)
    output:
        update(f"{RESULTS}/reports/03_baselines.html"),
        update(f"{RESULTS}/kpis.csv")
    shell:
        f"{RUN} 03_baselines {COMMON}"
