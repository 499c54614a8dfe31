# docker build -t gatecast .                     CPU
# docker build -t gatecast --build-arg GPU=1 .   adds the CUDA and cuDNN libraries
FROM python:3.13-slim AS build
ARG GPU=""
WORKDIR /build
RUN python -m venv /venv
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY app app
COPY models models
COPY export export
RUN /venv/bin/pip install --no-cache-dir --constraint constraints.txt ".[holidays,redis${GPU:+,gpu}]"

FROM python:3.13-slim
# The link makes /models the default: a setting would win over SageMaker's /opt/ml/model.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin gatecast \
    && ln -s /models /model_repository \
    && install --directory --owner=10001 --mode=0700 /jobs
WORKDIR /
COPY --from=build /venv /venv
COPY model_repository /models
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GATECAST_HOST=0.0.0.0
USER 10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/livez', timeout=2)"]
ENTRYPOINT ["gatecast"]
CMD ["serve"]
