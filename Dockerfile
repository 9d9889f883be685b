# One static binary, certificate authorities, and nothing else: no shell, no library, no package manager.
#
#   docker build --tag auth-sidecar --build-arg AUTH_SIDECAR_COMMIT="$(git rev-parse --short=12 HEAD)" .
#   docker buildx build --platform linux/amd64,linux/arm64 …    (the compiler runs on this machine's kind)
ARG RUST_IMAGE=rust:1.95-bookworm
FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS build
# Without a default, which would win over the platform that is asked for.
ARG TARGETARCH
ARG AUTH_SIDECAR_COMMIT=
WORKDIR /source
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# Another architecture takes its cross compiler, and the standard library if rustup brings that. The
# versions are those of the base image's distribution.
# hadolint ignore=DL3008
RUN if [[ $TARGETARCH == arm64 && $(uname -m) != aarch64 ]]; then \
        if ! command -v aarch64-linux-gnu-gcc; then \
            apt-get update && apt-get install -y --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross && \
            rm -rf /var/lib/apt/lists/*; \
        fi; \
        if command -v rustup; then rustup target add aarch64-unknown-linux-gnu; fi; \
    fi
COPY . .
# Besides the binary: the order of name lookups, without which the C library would not look into
# /etc/hosts first; and a name for the user.
RUN case $TARGETARCH in \
        amd64) target=x86_64-unknown-linux-gnu ;; \
        arm64) target=aarch64-unknown-linux-gnu ;; \
        *) echo "no image for $TARGETARCH" >&2; exit 1 ;; \
    esac && \
    mkdir -p /image/usr/local/bin /image/etc/ssl/certs /image/run && \
    cp "$(deploy/build static "$target")" /image/usr/local/bin/auth-sidecar && \
    cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ && \
    echo 'hosts: files dns' >/image/etc/nsswitch.conf && \
    echo 'auth-sidecar:x:65532:65532::/:/nonexistent' >/image/etc/passwd && \
    echo 'auth-sidecar:x:65532:' >/image/etc/group && \
    mkdir -p /image/usr/share/licenses/auth-sidecar && \
    cp LICENSE-MIT LICENSE-APACHE /image/usr/share/licenses/auth-sidecar/

FROM scratch
ARG AUTH_SIDECAR_COMMIT=
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="auth-sidecar" \
      org.opencontainers.image.description="A local reverse proxy that keeps a short-lived access token current and puts it on every request" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${AUTH_SIDECAR_COMMIT}" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /image /
# By number: with runAsNonRoot a kubelet can judge no name. Any other user works as well.
USER 65532:65532
# The listener is on the container's own loopback: share the pod's, or --network container:OTHER.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["/usr/local/bin/auth-sidecar", "wait", "--timeout", "2s"]
ENTRYPOINT ["/usr/local/bin/auth-sidecar"]
