# A GPU server, x86:
#   docker build -f tools/recipes/server.Dockerfile -t vlacut-server .
#   docker run --gpus all -p 7000:7000 -v /etc/vlacut/cloud:/keys:ro -v /srv/bundles:/bundles:ro vlacut-server
FROM nvidia/cuda:12.8.1-cudnn-runtime-ubuntu24.04
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY . /source
RUN python3 -m venv /opt/vlacut \
    && /opt/vlacut/bin/pip install --no-cache-dir '/source[cli,gpu,pictures,metrics,keys]' \
    && rm -rf /source && useradd --create-home vlacut
USER vlacut
EXPOSE 7000 9100
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/vlacut/bin/vlacut", "serve", "/bundles", "--watch", "--host", "0.0.0.0", "--port", "7000", "--tls", "/keys", "--metrics", "0.0.0.0:9100", "--log-json"]
