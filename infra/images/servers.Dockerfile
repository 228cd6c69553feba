# Both servers, Prefect and MLflow, at the versions of requirements.lock. Build with the repository as context.
# Prefect's own image is not taken, because it may hold a fastapi or sqlalchemy that breaks it (see pyproject.toml).
FROM ghcr.io/astral-sh/uv:0.13.8 AS uv

FROM python:3.11.13-slim-bookworm
COPY --from=uv /uv /usr/local/bin/uv
COPY requirements.lock /tmp/requirements.lock
# psycopg2 and asyncpg reach PostgreSQL, boto3 stores MLflow's artifacts, flask-wtf is its log-in, the exporter its metrics.
# prefect-kubernetes runs the gpu pool of infra/kubernetes; it stands alone because nothing else needs it.
RUN uv pip install --system --no-cache --constraint /tmp/requirements.lock \
      prefect mlflow asyncpg psycopg2-binary boto3 flask-wtf prometheus-flask-exporter prefect-kubernetes==0.8.0
# Prefect's door; the rest of our code is not needed.
COPY flows/__init__.py flows/doors.py /opt/regionclip/flows/
RUN useradd --create-home --uid 10001 regionclip
USER regionclip
WORKDIR /home/regionclip
ENV PYTHONUNBUFFERED=1 PYTHONPATH=/opt/regionclip
EXPOSE 4200 5000
