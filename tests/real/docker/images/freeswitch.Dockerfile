# Where the public image cannot be had: the FreeSWITCH that is installed on this machine, its modules and what they are linked with, which are the
# context (`engine.gather_freeswitch`). The base is this machine's own release.
ARG DEBIAN=debian:bookworm-slim
FROM ${DEBIAN}
COPY . /opt/freeswitch
RUN printf '#!/bin/sh\nexec /opt/freeswitch/freeswitch -mod /opt/freeswitch/mod "$@"\n' > /usr/local/bin/freeswitch \
 && chmod 755 /usr/local/bin/freeswitch
ENV LD_LIBRARY_PATH=/opt/freeswitch/lib PATH=$PATH:/opt/freeswitch
USER 10004:10004
