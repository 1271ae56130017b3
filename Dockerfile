# syntax=docker/dockerfile:1
# The images: docker build --target operator|recorder|proxy .   (`make try-images` tries them where there is no registry)
# Base images are pinned to a release here, and to a digest by whoever builds a release (--build-arg RUST=...@sha256:...).
ARG RUST=rust:1.95.0-slim-bookworm
ARG DEBIAN=debian:12.12-slim

FROM ${RUST} AS build
# aws-lc and SQLite are C.
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential cmake \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --locked --release --bins \
      -p bqwitness-proxy -p bqwitness-recorder -p bqwitness-operator -p bqwitness-cli \
 && mkdir /out \
 && find target/release -maxdepth 1 -type f -name 'bqwitness*' -executable -exec cp {} /out/ \;

# Public roots, to verify BigQuery's certificate; nobody is root unless the pod says so, nor becomes it: no program is set-user-ID.
FROM ${DEBIAN} AS base
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && find / -xdev -type f -perm /6000 -exec chmod a-s {} +
LABEL org.opencontainers.image.licenses="Apache-2.0"

# The sidecar, and the init container that redirects to it, which alone runs as root with NET_ADMIN.
FROM base AS proxy
RUN apt-get update \
 && apt-get install -y --no-install-recommends iptables \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/bqwitness-proxy /out/bqwitness-redirect /usr/local/bin/
USER 61337:61337
ENTRYPOINT ["bqwitness-proxy"]

# The recorder, its keeper, and the command line, which `helm test` uses.
FROM base AS recorder
COPY --from=build /out/bqwitness-recorder /out/bqwitness-keeper /out/bqwitness /usr/local/bin/
USER 65532:65532
ENTRYPOINT ["bqwitness-recorder"]

FROM base AS operator
COPY --from=build /out/bqwitness-operator /usr/local/bin/
USER 65532:65532
ENTRYPOINT ["bqwitness-operator"]
