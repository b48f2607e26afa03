# Roost's command, on Fargate, Kubernetes or Lambda. Your engines go in on top:
#
#   FROM roost:1.0
#   RUN pip install --no-cache-dir my-engines
#
# The root file system may be read-only; /tmp must be writable.

ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY pyproject.toml README.md ./
COPY roost ./roost
RUN python -m venv /opt/roost \
    && /opt/roost/bin/pip install --no-cache-dir --disable-pip-version-check '.[lambda]' awslambdaric

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="roost" \
      org.opencontainers.image.description="Keeps long-running agent workers alive, inspectable and resumable"
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin roost
COPY --from=build /opt/roost /opt/roost
ENV PATH=/opt/roost/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ROOST_LOG_FORMAT=json \
    ROOST_WORKER__HEALTH_PORT=8081
USER 10001:10001
WORKDIR /tmp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-m", "roost.hosting.probe", "8081"]
ENTRYPOINT ["roost"]
CMD ["worker"]
