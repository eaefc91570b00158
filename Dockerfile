# verydeep on a CPU without PyTorch: predict, evaluate, features, inspect and doctor, computed by the compiled kernel.
#
#   docker build -t verydeep .
#   docker run --rm -v "$PWD":/data verydeep predict verydeep-cifar10 photo.jpg

FROM python:3.13-slim AS build
RUN apt-get update && apt-get install --no-install-recommends -y g++ && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml setup.py README.md LICENSE NOTICE /source/
COPY src /source/src
RUN pip wheel --no-deps --wheel-dir /wheels /source

FROM python:3.13-slim
RUN apt-get update && apt-get install --no-install-recommends -y libgomp1 && rm -rf /var/lib/apt/lists/*
COPY requirements-without-torch.txt /
RUN --mount=from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-deps -r /requirements-without-torch.txt /wheels/*.whl \
    && find /usr/local/lib -path "*/numpy/*" -type d -name tests -prune -exec rm -r {} +
RUN useradd --create-home user
USER user
WORKDIR /data
ENTRYPOINT ["verydeep"]
CMD ["--help"]
