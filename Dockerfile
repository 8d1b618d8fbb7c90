# The platform as an image: distroless Python of Debian 12, user 65532, no shell, no package manager.
# `trade2026 cluster image` makes the same layout on a machine without Docker; a unit test compares the two.
#
#   docker build --tag trade2026 .
ARG BUILDER=python:3.11-slim-bookworm
ARG GO=golang:1.26-bookworm
ARG BASE=gcr.io/distroless/python3-debian12:nonroot

# Helm, with which the operator renders its chart: the version of the local cluster, pinned by hash.
FROM ${GO} AS helm
WORKDIR /source
COPY services/trade2026/local/cluster/go .
RUN CGO_ENABLED=0 GOWORK=off go build -trimpath -buildvcs=false -ldflags "-s -w" -o /made/helm helm.sh/helm/v4/cmd/helm

FROM ${BUILDER} AS build
WORKDIR /source
# Dependencies first: they change less often than we do.
COPY requirements requirements
RUN pip install --quiet --no-compile --no-deps --require-hashes --only-binary=:all: \
      --target /made/dependencies -r requirements/data.txt -r requirements/operator.txt \
    && rm -rf /made/dependencies/bin \
    && python -m compileall -q --invalidation-mode unchecked-hash \
      -s /made/dependencies -p /usr/local/lib/python3.11/dist-packages /made/dependencies \
    && pip install --quiet --require-hashes --only-binary=:all: -r requirements/build.txt
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY services services
COPY operators operators
COPY charts charts
COPY crds crds
RUN pip install --quiet --no-compile --no-deps --no-build-isolation --target /made/platform . \
    && rm -rf /made/platform/bin \
    && python -m compileall -q --invalidation-mode unchecked-hash \
      -s /made/platform -p /usr/local/lib/python3.11/dist-packages /made/platform

FROM ${BASE}
COPY --from=helm /made/helm /usr/bin/helm
COPY --from=build /made/dependencies/ /usr/local/lib/python3.11/dist-packages/
COPY --from=build /made/platform/ /usr/local/lib/python3.11/dist-packages/
ENV PATH=/usr/bin:/bin \
    LANG=C.UTF-8 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
WORKDIR /home/nonroot
ENTRYPOINT ["/usr/bin/python3.11", "-m", "trade2026"]
CMD ["--help"]
