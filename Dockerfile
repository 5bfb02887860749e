# Two images from one file:
#   docker build --target serve --tag maddpg-serve:0.1.0 .   the service: ONNX Runtime, no torch
#   docker build --target lab   --tag maddpg-lab:0.1.0 .     JupyterLab and training; torch's CUDA build, driver from the host
# The tag moves with Python's and Debian's security fixes only; packages are pinned by hash in the lock files.
FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN groupadd --gid 1001 app && useradd --uid 1001 --gid 1001 --create-home --shell /usr/sbin/nologin app
WORKDIR /app

# Requirements before code: a change of code alone leaves this layer in the cache.
FROM base AS serve-packages
COPY requirements-serve.lock ./
RUN python -m venv --without-pip /venv \
    && python -m pip --python /venv/bin/python install --no-cache-dir --no-deps --require-hashes \
        --requirement requirements-serve.lock

FROM base AS serve
COPY --from=serve-packages /venv /venv
COPY results/thesis/runs ./results/thesis/runs
COPY models ./models
COPY thesis_lib ./thesis_lib
# ONNX Runtime would otherwise report its use to its maker.
ENV PATH=/venv/bin:$PATH ORT_DISABLE_TELEMETRY=1
USER 1001:1001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
CMD ["python", "-m", "thesis_lib.serving.app"]

FROM base AS lab-packages
COPY requirements.lock requirements-torch.txt ./
RUN python -m venv --without-pip /venv \
    && python -m pip --python /venv/bin/python install --no-cache-dir --no-deps --require-hashes \
        --requirement requirements.lock \
    && python -m pip --python /venv/bin/python install --no-cache-dir --requirement requirements-torch.txt

FROM base AS lab
# g++ for torch.compile, git for the record of a run. Debian keeps only the newest version of a package, so none is pinned.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends g++ git && rm -rf /var/lib/apt/lists/* \
    && chown app:app /app
COPY --from=lab-packages /venv /venv
COPY --chown=1001:1001 . ./
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app JUPYTER_PLATFORM_DIRS=1 MPLBACKEND=Agg \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1001:1001
EXPOSE 8888
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8888/api', timeout=4)"]
CMD ["python", "-m", "jupyterlab", "--ip=0.0.0.0", "--port=8888", "--no-browser", "--notebook-dir=notebooks"]
