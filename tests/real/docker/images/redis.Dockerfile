# Where the public image cannot be had: Debian's Redis.
ARG DEBIAN=debian:bookworm-slim
FROM ${DEBIAN}
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends redis-server \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -o redis -g redis /data
# By name, as the public image has it and compose.yaml says it: Debian's package picks the number.
# hadolint ignore=DL3066
USER redis
