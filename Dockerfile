# One image for service and workers. EXTRA=gpu builds the one for GPU machines.
FROM python:3.12-slim

ARG EXTRA=cpu
WORKDIR /app
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY tamis ./tamis
COPY service ./service
COPY worker ./worker
COPY trainer ./trainer
COPY migrations ./migrations
RUN pip install --no-cache-dir --constraint constraints.txt ".[${EXTRA}]" \
    && useradd --create-home --uid 10001 tamis \
    && install -d -o tamis /data
USER tamis
ENV TAMIS_DATA=/data PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --start-period=30s CMD \
    ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=5)"]
ENTRYPOINT ["tamis"]
CMD ["serve", "--host", "0.0.0.0", "--no-worker"]
