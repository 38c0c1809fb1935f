# Simulated devices and their report: numpy and ONNX Runtime, no torch.
#
#   docker build -f docker/device.Dockerfile -t recommender-device .

FROM python:3.11-slim-bookworm AS tools
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# Without pip of its own: the base's pip fills it, and the final image carries one pip less.
RUN python3 -m venv --without-pip /venv

# The dependencies alone, so that a change of code installs nothing again: pyproject.toml without
# the packages it speaks of makes an empty wheel, which the real one replaces in the final image.
FROM tools AS dependencies
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN touch README.md
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /venv/bin/python install -c constraints.txt ".[simulate]"
# What no device reads, a sixth of it all: the libraries' own tests, stubs, C headers, numpy's build
# tools, ONNX Runtime's tools for making models, fontTools' for making fonts. The .pyc files stay, a fifth: the file system is
# read-only when the image runs, so that without them every start would compile everything again.
RUN cd /venv/lib/python3.11/site-packages \
    && rm -rf numpy/f2py numpy/distutils numpy/_core/include matplotlib/mpl-data/sample_data \
        onnxruntime/transformers onnxruntime/quantization onnxruntime/tools \
        onnxruntime/datasets onnxruntime/backend \
        fontTools/varLib fontTools/feaLib fontTools/cu2qu fontTools/qu2cu fontTools/otlLib \
        fontTools/designspaceLib fontTools/ufoLib fontTools/voltLib fontTools/mtiLib \
    && find . -depth \( -type d -name tests -o -type f -name '*.pyi' \) -exec rm -rf {} +

FROM tools AS project
WORKDIR /src
COPY pyproject.toml README.md ./
COPY shared shared
COPY device_client device_client
COPY experiments experiments
RUN --mount=type=cache,target=/root/.cache/pip pip wheel --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm AS device
RUN echo 'app:x:10001:10001::/tmp:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'app:x:10001:' >> /etc/group \
    && mkdir -p /bundles /report && chown 10001:10001 /bundles /report
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib
LABEL org.opencontainers.image.title="device-cloud-recommendation: device" \
      org.opencontainers.image.description="Simulated devices that rerank, and their report." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.documentation="README.md"
COPY --from=dependencies /venv /venv
RUN --mount=type=bind,from=project,source=/wheels,target=/wheels \
    pip --python /venv/bin/python install --no-cache-dir --no-index --no-deps \
        --force-reinstall /wheels/*.whl
WORKDIR /bundles
USER 10001:10001
CMD ["device-client", "--help"]
