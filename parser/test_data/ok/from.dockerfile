ARG version=3 other
ARG quoted="a b"
FROM alpine:${version}
FROM --platform=$BUILDPLATFORM registry:5000/a/b@sha256:0 AS base-1.x_y
FROM base-1.x_y AS last
