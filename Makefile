# Every target does its own set-up; a second call finds it done. `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
CORES ?= 2
WORKERS ?= 2
VARIANT ?= broadcast
LEARNER ?= independent_sac
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The official edition of the data, where it lies beside the checkout; otherwise the library looks for it.
ifneq ($(wildcard ../shared/datasets/.),)
CITYLEARN_DATASETS ?= $(abspath ../shared/datasets)
endif
ifdef CITYLEARN_DATASETS
export CITYLEARN_DATASETS
endif
# One thread per process: the pipeline and the tests run several processes at once.
export OMP_NUM_THREADS ?= 1
export JUPYTER_PLATFORM_DIRS = 1
export MPLBACKEND = Agg

SNAKEMAKE = $(BIN)/python -m snakemake --workflow-profile profiles/local --cores $(CORES)
PYTEST = $(BIN)/python -m pytest -n $(WORKERS)
NOTEBOOKS = $(wildcard notebooks/*.ipynb)
NBMAKE = --nbmake --nbmake-timeout=600

.DEFAULT_GOAL := help
.PHONY: help setup quick thesis ablations search latency screenshot test test-fast test-slow lint sync readme lab serve fuzz \
	soak benchmark spread deploy-check lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

setup: $(STAMP)  ## make .venv with the pinned packages

# The lock first: it holds all that the CPU build of torch needs, so that pip then adds torch alone. pip would
# warn that CityLearn's declared dependencies are not met; they are out of date (see requirements-nodeps.txt).
$(STAMP): requirements.lock requirements-torch.txt pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or later is needed: make PYTHON=python3.11 setup')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-warn-conflicts -r requirements-torch.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

quick: $(STAMP)  ## data, training and comparison in minutes: results/quick, figures/quick
	$(SNAKEMAKE) --config profile=quick

thesis: $(STAMP)  ## the thesis' own run: results/thesis, figures/thesis (hours; resumes where it stopped)
	$(SNAKEMAKE) --config profile=thesis

ablations: $(STAMP)  ## one question at a time, five seeds each: results/ablations, figures/ablations (hours; resumes)
	$(SNAKEMAKE) ablations --config profile=ablations
	$(BIN)/python -m thesis_lib.analysis.readme

search: $(STAMP)  ## tune a compared learner (LEARNER=..., MINUTES=... beyond its budget): results/tuning (hours; goes on where it stopped)
	$(BIN)/python -m thesis_lib.analysis.search $(LEARNER) $(if $(MINUTES),--minutes $(MINUTES))

test: $(STAMP)  ## every test, and every notebook at mock size
	$(PYTEST) $(if $(NOTEBOOKS),$(NBMAKE) $(NOTEBOOKS)) tests

test-fast: $(STAMP)  ## the tests without the slow ones and the notebooks
	$(PYTEST) -m "not slow" tests

test-slow: $(STAMP)  ## the slow tests only (the full year beside CityLearn)
	$(PYTEST) -m slow tests

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/python -m ruff check
	$(BIN)/python -m mypy

sync: $(STAMP)  ## write notebooks/*.ipynb anew from notebooks/scripts/*.py, the source of truth
	$(BIN)/python -m thesis_lib.notebooks sync

readme: $(STAMP)  ## write the figures of both READMEs, docs/algorithm.md and docs/protocol.md anew from results/
	$(BIN)/python -m thesis_lib.analysis.readme

lab: $(STAMP)  ## open the notebooks in JupyterLab
	$(BIN)/python -m jupyterlab --notebook-dir notebooks

serve: $(STAMP)  ## the policy as a service on port 8000 (VARIANT=none: the strictly local one)
	$(BIN)/python -m thesis_lib.serving.app --model models/$(VARIANT)

screenshot: $(STAMP)  ## docs/dashboard.png and docs/dashboard_es_phone.png from the running service; needs chromium and its driver
	$(BIN)/python docs/screenshot.py

fuzz: $(STAMP)  ## 20,000 random requests to the service, none of which may end in a 5xx
	FUZZ_EXAMPLES=20000 $(BIN)/python -m pytest tests/test_serving_requests.py

soak: $(STAMP)  ## ten minutes of 300 requests a second (VARIANT=... for another model)
	$(BIN)/python benchmarks/service.py --soak 600 --rate 300 --model models/$(VARIANT)

latency: $(STAMP)  ## notebook 05, how long a decision takes: results/thesis (minutes; on a machine that does nothing else)
	$(SNAKEMAKE) latency --config profile=thesis

benchmark: $(STAMP)  ## speed, as ratios measured in the same run: results/speed, README (on a machine that does nothing else)
	OMP_NUM_THREADS=$(CORES) $(BIN)/python benchmarks/model.py --threads $(CORES) --output results/speed/model.json
	OMP_NUM_THREADS=$(CORES) $(BIN)/python benchmarks/training.py --cores $(CORES) --output results/speed/training.json
	$(BIN)/python benchmarks/where.py --output results/speed/where.json
	$(BIN)/python benchmarks/independent.py --output results/speed/independent.json
	OMP_NUM_THREADS=$(CORES) $(BIN)/python benchmarks/service.py --year --output results/speed/service.json
	$(BIN)/python -m thesis_lib.analysis.readme

spread: .venv-spread/.installed  ## K = 0 beside BenchMARL's MADDPG, in an environment of its own: results/simple_spread
	PYTHONPATH=. .venv-spread/bin/python benchmarks/simple_spread/compare.py

.venv-spread/.installed: benchmarks/simple_spread/requirements.txt requirements-torch.txt
	$(PYTHON) -m venv .venv-spread
	.venv-spread/bin/python -m pip install --disable-pip-version-check --quiet -r $<
	@touch $@

# Everything that can be known of the deployment without a cluster and without a container engine.
OVERLAYS = $(notdir $(wildcard deploy/kubernetes/overlays/*))
RENDERED = .cache/deploy

deploy-check: $(STAMP) .venv-deploy/.installed $(if $(shell command -v promtool),,.venv-deploy/prometheus)  ## Dockerfile, compose, Kubernetes, monitoring and workflow: schemas, policies, references
	.venv-deploy/bin/hadolint Dockerfile
	.venv-deploy/bin/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
	.venv-deploy/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml
	@rm -rf $(RENDERED) && mkdir -p $(RENDERED)
	for overlay in $(OVERLAYS); do \
		.venv-deploy/bin/kubectl kustomize deploy/kubernetes/overlays/$$overlay > $(RENDERED)/$$overlay.yaml || exit 1; done
	.venv-deploy/bin/kubernetes-validate --strict --quiet $(RENDERED)/*.yaml
	.venv-deploy/bin/checkov --config-file deploy/checkov.yaml --directory $(RENDERED)
	.venv-deploy/bin/checkov --config-file deploy/checkov.yaml --file Dockerfile .github/workflows/ci.yml
	DEPLOY_CHECK=1 $(BIN)/python -m pytest tests/test_deploy.py tests/test_image.py

.venv-deploy/.installed: deploy/requirements.lock
	$(PYTHON) -m venv .venv-deploy
	.venv-deploy/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --require-hashes -r $<
	@touch $@

# Prometheus and promtool: Debian's and Ubuntu's package, unpacked and not installed. Elsewhere have promtool on the PATH.
.venv-deploy/prometheus: | .venv-deploy/.installed
	cd .venv-deploy && apt-get download prometheus && dpkg --extract prometheus_*.deb prometheus && rm prometheus_*.deb

lock: $(STAMP)  ## compile requirements.lock anew (UPGRADE=--upgrade for the newest versions)
	$(BIN)/python -m piptools compile --quiet --generate-hashes --allow-unsafe --strip-extras --extra dev \
		--no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host $(UPGRADE) \
		--output-file requirements.lock pyproject.toml
	$(BIN)/python -m piptools compile --quiet --generate-hashes --allow-unsafe --strip-extras \
		--no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-annotate \
		--constraint requirements.lock --output-file requirements-serve.lock requirements-serve.in
	cat requirements-nodeps.txt >> requirements.lock
	$(BIN)/python -m piptools compile --quiet --generate-hashes --allow-unsafe --strip-extras \
		--no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host $(UPGRADE) \
		--output-file deploy/requirements.lock deploy/requirements.in

clean:  ## remove the environment and all that git ignores, except checkpoints and cached data
	git clean -fdX --exclude='!checkpoints' --exclude='!.cache'
