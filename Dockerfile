# docker build -t cp2fast .
# docker run --rm --gpus all --ipc host -v "$PWD:/work" cp2fast pretrain r50 data.root=photos
#
# The base brings the CUDA runtime; cuDNN, NVRTC and the other libraries come with torch's wheels.
# --ipc host: the processes of a machine share decoded images in /dev/shm, which is small otherwise.
# --user "$(id -u):$(id -g)": what is written belongs to you, not to root.
FROM nvidia/cuda:13.0.1-base-ubuntu24.04

# torch.compile builds its launchers with a C compiler and Python's headers. No versions are named,
# because Ubuntu keeps only the newest of a package.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

RUN python3 -m venv /opt/cp2fast
ENV PATH=/opt/cp2fast/bin:$PATH

WORKDIR /opt/source
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY cp2fast cp2fast
COPY configs configs
RUN pip install --no-cache-dir .

# What runs leave, and what is compiled for them, lies in the folder that is mounted here.
WORKDIR /work
ENV HOME=/work
ENTRYPOINT ["cp2fast"]
CMD ["--help"]
