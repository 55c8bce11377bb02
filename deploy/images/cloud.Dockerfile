# syntax=docker/dockerfile:1
# A cloud node, and what cuts models into bundles. From the repository's root, for the CPU:
#   docker build -f deploy/images/cloud.Dockerfile -t cleave-cloud:cpu .
# and for CUDA, whose libraries come with torch's wheels, so that the base stays the same (`docker run --gpus all` needs
# NVIDIA's container toolkit on the host):
#   docker build -f deploy/images/cloud.Dockerfile -t cleave-cloud:cuda \
#     --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
# The base is pinned by tag; pin it by digest, too, where you build (BASE=python:3.11-slim-bookworm@sha256:...).
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
COPY constraints.txt ./
# A layer of its own: it is the largest, and changes only with its version.
RUN python -m venv --without-pip /opt/cleave \
    && pip --python /opt/cleave/bin/python install --no-cache-dir -c constraints.txt --index-url "${TORCH_INDEX}" torch
COPY . .
RUN pip --python /opt/cleave/bin/python install --no-cache-dir -c constraints.txt ".[partition,tracing]"

FROM ${BASE}
RUN groupadd --gid 10001 cleave \
    && useradd --uid 10001 --gid cleave --home-dir /var/lib/cleave --create-home --shell /usr/sbin/nologin cleave
COPY --from=build /opt/cleave /opt/cleave
# What a cloud keeps: bundles that it made itself, and indexes (--index-dir) where you want them here.
ENV PATH=/opt/cleave/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CLEAVE_CACHE=/var/lib/cleave \
    HF_HUB_OFFLINE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /var/lib/cleave
USER 10001:10001
EXPOSE 50051 9100
# Ready, as a balancer sees it: models loaded and probed, not draining. Run it with --metrics-listen 0.0.0.0:9100 for this.
HEALTHCHECK --interval=15s --timeout=10s --start-period=300s --retries=3 CMD ["cleave", "health", "--http", "127.0.0.1:9100"]
# SIGTERM, docker's own, drains: give it --drain-s and a little more (docker stop --time 45).
ENTRYPOINT ["cleave"]
CMD ["cloud", "--help"]
