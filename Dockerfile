# The gateway in a small image: docker build -t portcullis .
#
# With --build-arg GUIDED=yes it is built by a profile (scripts/build-guided): that takes three times as long, and requests cost less.
#
#   docker run -p 80:80 -p 443:443 -v "$PWD/config:/etc/portcullis:ro" portcullis
#
# Without a mounted configuration the gateway refuses to start and says which file it misses. Stopping the container
# drains it, so allow it as long as its drain_timeout: docker stop --time 35.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /source
# What the build of aws-lc and mimalloc needs, a C compiler, is in this image.
COPY . .
ARG GUIDED=no
RUN export CARGO_PROFILE_RELEASE_STRIP=debuginfo && \
    if [ "$GUIDED" = yes ]; then scripts/build-guided && cp target/guided/portcullis .; \
    else cargo build --release --locked --bin portcullis && cp target/release/portcullis .; fi

# Nothing but the C library and a user without rights: no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /source/portcullis /usr/local/bin/portcullis
ENV PORTCULLIS_CONFIG=/etc/portcullis/gateway.toml
# Docker lets a container's unprivileged user open ports below 1024 (net.ipv4.ip_unprivileged_port_start=0).
EXPOSE 80 443
ENTRYPOINT ["/usr/local/bin/portcullis"]
CMD ["run"]
