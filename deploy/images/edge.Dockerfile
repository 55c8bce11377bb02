# syntax=docker/dockerfile:1
# An edge: onnxruntime, no torch, no cloud. For linux/amd64 and linux/arm64, from the repository's root:
#   docker buildx build --platform linux/amd64,linux/arm64 -f deploy/images/edge.Dockerfile -t cleave-edge .
# The base is pinned by tag; pin it by digest, too, where you build (BASE=python:3.11-slim-bookworm@sha256:...).
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
COPY . .
# The project's own models are the cloud's: here the package comes without them.
RUN mkdir assets \
    && python -m venv --without-pip /opt/cleave \
    && pip --python /opt/cleave/bin/python install --no-cache-dir -c constraints.txt ".[edge]"

FROM ${BASE}
RUN groupadd --gid 10001 cleave \
    && useradd --uid 10001 --gid cleave --home-dir /var/lib/cleave --create-home --shell /usr/sbin/nologin cleave
COPY --from=build /opt/cleave /opt/cleave
# What an edge keeps: the bundles that it fetched, and what it knows them by.
ENV PATH=/opt/cleave/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CLEAVE_CACHE=/var/lib/cleave
WORKDIR /var/lib/cleave
USER 10001:10001
# An edge is well where its cloud takes its requests; CLEAVE_CLOUD names the cloud, for this and for every command.
HEALTHCHECK --interval=60s --timeout=15s --start-period=15s --retries=3 CMD ["cleave", "health"]
ENTRYPOINT ["cleave"]
CMD ["--help"]
