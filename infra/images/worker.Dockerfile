# A worker with what the stages need, from requirements.lock. Build with the repository as context.
# The wheels of torch bring CUDA's libraries; the base image brings what the driver wants.
FROM ghcr.io/astral-sh/uv:0.13.8 AS uv

FROM nvidia/cuda:13.0.1-base-ubuntu24.04
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git openssh-client libgl1 libglib2.0-0t64 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=uv /uv /usr/local/bin/uv
ENV UV_PYTHON_INSTALL_DIR=/opt/python VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
COPY requirements.lock /opt/regionclip/requirements.lock
RUN uv venv --python 3.11.13 /opt/venv \
    && uv pip sync --no-cache --require-hashes /opt/regionclip/requirements.lock
# The commands of the stages; their code comes from the checkout that a run works in.
COPY pyproject.toml README.md LICENSE /opt/regionclip/
COPY regionclip /opt/regionclip/regionclip
COPY flows /opt/regionclip/flows
RUN uv pip install --no-cache --no-deps /opt/regionclip
# A volume takes its owner from the folder that it is mounted on.
RUN useradd --create-home --uid 10001 regionclip \
    && install --directory --owner regionclip /var/lib/regionclip
USER regionclip
WORKDIR /home/regionclip
EXPOSE 8080
