# One image for every worker and for the command line. Build from the project's root.
FROM python:3.11-slim

WORKDIR /opt/earful
RUN useradd --system --no-create-home earful
COPY requirements/runtime.txt requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/runtime.txt
COPY errors.py settings.py cli.py ./
COPY commands commands
COPY report report
COPY stream stream
COPY store store
COPY speech speech
COPY sentiment sentiment
COPY model_repo/aspects model_repo/aspects
COPY model_repo/cvib model_repo/cvib
COPY workers workers
COPY stack stack
COPY migrations migrations
COPY docker/earful /usr/local/bin/earful
ENV PYTHONPATH=/opt/earful PYTHONUNBUFFERED=1
USER earful
ENTRYPOINT ["earful"]
