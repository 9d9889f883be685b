# Builds the sidecar, then copies it into an image without a shell.
FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock build.rs ./
COPY src src
COPY config config
# A member of the workspace: cargo needs its manifest, but does not build it.
COPY tests/oracle tests/oracle
# What `auth-sidecar --version` shows: docker build --build-arg AUTH_SIDECAR_COMMIT=$(git rev-parse --short=12 HEAD)
ARG AUTH_SIDECAR_COMMIT
RUN cargo build --release --locked

# glibc, CA certificates, a non-root user, and nothing else.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /build/target/release/auth-sidecar /usr/local/bin/auth-sidecar
# A container's own loopback is not reachable from outside: share the pod's (or --network container:…).
ENTRYPOINT ["/usr/local/bin/auth-sidecar"]
