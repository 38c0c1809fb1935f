# Two images from one file: `cloud` answers and never trains, so it has no torch; `worker` trains.
#
#   docker build -f docker/cloud.Dockerfile --target cloud -t recommender-cloud .
#   docker build -f docker/cloud.Dockerfile --target worker -t recommender-worker .

FROM python:3.11-slim-bookworm AS tools
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# Without pip of its own: the base's pip fills it, and the final images carry one pip less.
RUN python3 -m venv --without-pip /venv

# The dependencies alone, so that a change of code installs nothing again: pyproject.toml without
# the packages it speaks of makes an empty wheel, which the real one replaces in the final images.
FROM tools AS cloud-dependencies
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN touch README.md
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /venv/bin/python install -c constraints.txt ".[serve]"
# What no program reads: tests of libraries, C headers, stubs. The .pyc files stay: the file system
# is read-only when the image runs, so that every start would compile everything again.
RUN find /venv -depth \( -type d -name tests -o -type d -name include \
        -path '*/site-packages/*' -o -type f -name '*.pyi' \) -exec rm -rf {} +

# torch first and by itself: the plain index would bring gigabytes of CUDA. A wheel that pip finds
# on this machine (find-links) is used, else the CPU build from PyTorch's own index.
FROM tools AS worker-dependencies
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /venv/bin/python install --no-index --no-deps torch==2.13.0 \
    || pip --python /venv/bin/python install --no-deps torch==2.13.0 \
        --index-url https://download.pytorch.org/whl/cpu
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN touch README.md
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /venv/bin/python install -c constraints.txt ".[cloud]"
# As above, and torch's static libraries and test programs: nothing is compiled here.
RUN find /venv -depth \( -type d -name tests -o -type d -name include \
        -path '*/site-packages/*' -o -type f \( -name '*.pyi' -o -name '*.a' \) \
        -o -type d -path '*/site-packages/torch/test' \) -exec rm -rf {} +

FROM tools AS project
WORKDIR /src
COPY pyproject.toml README.md ./
COPY shared shared
COPY device_client device_client
COPY experiments experiments
COPY cloud_service cloud_service
RUN --mount=type=cache,target=/root/.cache/pip pip wheel --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm AS runtime
# A name for the fixed user: libraries look it up. It owns the volumes and nothing of the program.
RUN echo 'app:x:10001:10001::/tmp:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'app:x:10001:' >> /etc/group \
    && mkdir -p /store /data /run/trained && chown 10001:10001 /store /data /run/trained
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    CLOUD_STORE=/store \
    CLOUD_DATA_FOLDER=/data
LABEL org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.documentation="README.md"
WORKDIR /store

FROM runtime AS cloud
LABEL org.opencontainers.image.title="device-cloud-recommendation: cloud" \
      org.opencontainers.image.description="Answers corrections, hands out bundles, lists jobs."
COPY --from=cloud-dependencies /venv /venv
RUN --mount=type=bind,from=project,source=/wheels,target=/wheels \
    pip --python /venv/bin/python install --no-cache-dir --no-index --no-deps \
        --force-reinstall /wheels/*.whl
COPY docker/train_once.py /usr/local/lib/train_once.py
ENV CLOUD_HOST=0.0.0.0
EXPOSE 8000
USER 10001:10001
CMD ["cloud-service", "serve"]

FROM runtime AS worker
LABEL org.opencontainers.image.title="device-cloud-recommendation: worker" \
      org.opencontainers.image.description="Trains models, one job at a time, and publishes them."
COPY --from=worker-dependencies /venv /venv
RUN --mount=type=bind,from=project,source=/wheels,target=/wheels \
    pip --python /venv/bin/python install --no-cache-dir --no-index --no-deps \
        --force-reinstall /wheels/*.whl
USER 10001:10001
CMD ["cloud-service", "worker"]
