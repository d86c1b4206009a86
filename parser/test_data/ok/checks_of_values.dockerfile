# check=experimental=all;skip=StageNameCasng,NotYetKnown
# VERSION of what is built
ARG VERSION=1
# says nothing about it
ARG AWS_SECRET_ACCESS_KEY

FROM --platform=$TARGETPLATFORM scratch AS one
# two does other things
FROM --platform=linux/amd64 scratch AS two
FROM --platform=linux/arm64 scratch AS for_arm64

# some other comment

FROM scratch AS last
# check=skip=SecretsUsedInArgOrEnv
ENV PASSWORD=x
ENV PUBLIC_KEY=x API_TOKEN=y
