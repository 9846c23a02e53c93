# Triton with the packages our models need, and the models. Build from the project's root.
# 25.08 is Triton 2.60 on Python 3.12, for which requirements/triton.txt has wheels too.
FROM nvcr.io/nvidia/tritonserver:25.08-py3

WORKDIR /opt/earful
COPY requirements/triton.txt requirements/
RUN pip install --no-cache-dir --break-system-packages --ignore-installed --require-hashes -r requirements/triton.txt
COPY errors.py ./
COPY speech speech
COPY sentiment sentiment
COPY model_repo model_repo
COPY docker/canaries.py docker/
# model.py finds speech/ and sentiment/ here
ENV EARFUL_HOME=/opt/earful
