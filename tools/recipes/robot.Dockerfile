# A robot with JetPack 6, whose Python is 3.10, with a pack of its half beside this file:
#   docker build -f tools/recipes/robot.Dockerfile -t vlacut-robot .
#   docker run --runtime nvidia --network host -v /etc/vlacut/robot:/keys:ro vlacut-robot
FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip python3-libnvinfer \
    && rm -rf /var/lib/apt/lists/* \
    && pip3 install --no-cache-dir 'numpy>=1.26,<2' msgpack websockets \
    && useradd --create-home vlacut
COPY robot.vlacut /robot.vlacut
USER vlacut
STOPSIGNAL SIGTERM
ENTRYPOINT ["python3", "/robot.vlacut", "--cloud", "10.0.0.5:7000", "--tls", "/keys", "--deadline", "100ms", "--serve", "openpi://127.0.0.1:8000"]
