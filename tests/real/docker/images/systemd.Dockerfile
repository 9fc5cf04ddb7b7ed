# Roomline's image with systemd as its first process: for its units.
ARG ROOMLINE=roomline
FROM ${ROOMLINE}
# The first process of a host is root's.
# hadolint ignore=DL3002
USER 0:0
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends procps systemd \
 && rm -rf /var/lib/apt/lists/* \
 && usermod --home /var/lib/roomline roomline \
 && roomline files systemd --to /etc/systemd/system \
 && rm -rf /run/roomline /var/lib/roomline
STOPSIGNAL SIGRTMIN+3
HEALTHCHECK NONE
ENTRYPOINT ["/lib/systemd/systemd"]
CMD []
