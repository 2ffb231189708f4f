# The workflow with all that it needs, by the same set-up as `make setup`.
#
#   docker build -t locedit .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/study" locedit --cores all
#
# Results, logs and downloads lie in the folder that is mounted as /study.
FROM python:3.11.7-slim-bookworm

# See scripts/setup.sh: another torch than the pinned one, an index with CPU builds.
ARG TORCH_SPEC
ARG TORCH_INDEX

COPY . /opt/locedit
RUN /opt/locedit/scripts/setup.sh && rm -rf /var/lib/apt/lists/* /root/.cache

# A home and a name for whoever runs it: caches lie in the first, libraries ask for the second.
ENV PATH=/opt/locedit/.venv/bin:$PATH HOME=/study USER=study
WORKDIR /study
ENTRYPOINT ["snakemake", "--snakefile", "/opt/locedit/Snakefile"]
CMD ["--cores", "all"]
