# Where the public image cannot be had: the binary that `bridge.testing.livekit_server` builds, which is the context.
ARG DEBIAN=debian:bookworm-slim
FROM ${DEBIAN}
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends wget \
 && rm -rf /var/lib/apt/lists/*
COPY livekit-server /
ENTRYPOINT ["/livekit-server"]
