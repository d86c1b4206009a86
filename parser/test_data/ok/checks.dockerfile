from scratch AS Base
cmd one
CMD ["two"]
FROM Base as base
WORKDIR a
ENV k v
MAINTAINER me
ENTRYPOINT go
HEALTHCHECK NONE
HEALTHCHECK CMD x
FROM base AS scratch
SHELL ["/bin/bash"]
CMD three
FROM scratch as context
CMD four
WORKDIR b
