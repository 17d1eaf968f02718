# The service alone: no embedded servers, no development tools, no pip.
#
# Python 3.13 on slim Debian: every pinned dependency has a wheel for it, on x86-64 and arm64, so
# that nothing is compiled. Alpine would save little, and bring musl instead of the glibc that the
# tests run on.
ARG BASE=python:3.13-slim-trixie

FROM ${BASE} AS build
WORKDIR /source
RUN python -m venv --without-pip /venv
COPY pyproject.toml README.md requirements.txt ./
COPY contracts contracts
# Without worker/devtools, which .dockerignore leaves out.
COPY worker worker
# As constraints, requirements.txt says which versions, and pyproject.toml which packages.
RUN pip --python /venv install --no-cache-dir --disable-pip-version-check \
    --constraint requirements.txt .

FROM ${BASE}
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
# A number, as an orchestrator that forbids root cannot look up a name.
USER 10001:10001
# The first one asks the worker to drain (RESERVATION_DRAIN_SECONDS), a second stops it at once.
STOPSIGNAL SIGTERM
# No HEALTHCHECK: the worker listens on nothing, ends with an exit code when it cannot go on, and
# waits for a server that is down. A restart would fix nothing that it does not fix itself.
ENTRYPOINT ["reservation-worker"]
CMD ["run"]
