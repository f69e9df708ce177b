# The images of service and workers: target `cpu`, and `gpu` for machines with an NVIDIA GPU.
FROM python:3.13-slim-trixie AS python
ENV PATH=/opt/tamis/bin:$PATH

# What Tamis needs, without Tamis: a layer that only another release of something changes.
FROM python AS needed
WORKDIR /source
COPY constraints.txt pyproject.toml ./
COPY tamis/version.py tamis/
RUN mkdir service worker trainer migrations && touch README.md LICENSE && python -m venv /opt/tamis

FROM needed AS needed-cpu
# PyTorch's index of CPU builds. Without it PyTorch brings CUDA: what it is not linked to, and so starts without, goes.
ARG TORCH_INDEX=
RUN --mount=type=cache,target=/root/.cache/pip \
    PIP_EXTRA_INDEX_URL=$TORCH_INDEX pip install --constraint constraints.txt ".[cpu]" \
    && pip uninstall --yes tamis triton cuda-bindings cuda-pathfinder nvidia-cusolver nvidia-nvtx \
    && rm -f /opt/tamis/lib/python3*/site-packages/nvidia/cudnn/lib/libcudnn_* \
    && python -c "import faiss, torch, torchvision"

FROM needed AS needed-gpu
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint constraints.txt ".[gpu]" && pip uninstall --yes tamis

FROM python AS wheel
WORKDIR /source
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY tamis ./tamis
COPY service ./service
COPY worker ./worker
COPY trainer ./trainer
COPY migrations ./migrations
RUN python -m venv /opt/tamis && pip wheel --no-deps --constraint constraints.txt --wheel-dir /wheels .

FROM python AS started
# All that is ever written lies in /data, large working files too, for those in memory would count as such.
ENV PYTHONUNBUFFERED=1 TAMIS_DATA=/data TMPDIR=/data XDG_CACHE_HOME=/data/cache
RUN useradd --uid 10001 --no-create-home --home-dir /data tamis && install -d -o tamis -g tamis /data
WORKDIR /data
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --start-period=30s CMD \
    ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=5)"]
ENTRYPOINT ["tamis"]
CMD ["serve", "--host", "0.0.0.0", "--no-worker"]

FROM started AS gpu
# Triton builds with it what it runs on the GPU.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY --from=needed-gpu /opt/tamis /opt/tamis
RUN --mount=from=wheel,source=/wheels,target=/wheels pip install --no-deps --no-cache-dir --no-index /wheels/*
USER tamis

FROM started AS cpu
COPY --from=needed-cpu /opt/tamis /opt/tamis
RUN --mount=from=wheel,source=/wheels,target=/wheels pip install --no-deps --no-cache-dir --no-index /wheels/*
USER tamis
