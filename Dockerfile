# Builds the sidecar, then copies it into an image without a shell.
FROM rust:1.95-bookworm AS build
WORKDIR /build
# The sources are copied without their repository: --build-arg COMMIT=$(git rev-parse HEAD) names it.
ARG COMMIT=""
ENV AUTH_SIDECAR_COMMIT=$COMMIT
COPY Cargo.toml Cargo.lock build.rs ./
COPY src src
COPY config config
# A member of the workspace: cargo needs its manifest, but does not build it.
COPY tests/oracle tests/oracle
RUN cargo build --release --locked

# glibc, CA certificates, a non-root user, and nothing else.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /build/target/release/auth-sidecar /usr/local/bin/auth-sidecar
# A container's own loopback is not reachable from outside: share the pod's (or --network container:…).
ENTRYPOINT ["/usr/local/bin/auth-sidecar"]
