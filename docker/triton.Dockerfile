# Triton with the packages our models need, and the models. Build from the project's root.
#   --target cpu: whisper, aspects, cvib    --target gpu: the same and phi4, with torch
# 25.08 is Triton 2.60 on Python 3.12 with CUDA 13.0, for which both locks have wheels.
FROM nvcr.io/nvidia/tritonserver:25.08-py3 AS base
WORKDIR /opt/earful
# model.py finds speech/ and sentiment/ here
ENV EARFUL_HOME=/opt/earful
# As in stack/triton.py: what is heard must not hang on the number of cores
ENV OPENBLAS_NUM_THREADS=1
ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_IGNORE_INSTALLED=1 PIP_NO_CACHE_DIR=1

# The packages come before our own files: they change less often.
FROM base AS packages-cpu
COPY requirements/triton.txt requirements/
RUN pip install --require-hashes -r requirements/triton.txt

FROM base AS packages-gpu
COPY requirements/torch.txt requirements/
RUN pip install --require-hashes -r requirements/torch.txt

FROM packages-cpu AS cpu
COPY errors.py ./
COPY speech speech
COPY sentiment sentiment
COPY model_repo/aspects model_repo/aspects
COPY model_repo/cvib model_repo/cvib
COPY model_repo/whisper model_repo/whisper
COPY docker/canaries.py docker/

FROM packages-gpu AS gpu
COPY errors.py ./
COPY speech speech
COPY sentiment sentiment
COPY model_repo model_repo
COPY docker/canaries.py docker/
