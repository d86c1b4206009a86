FROM scratch
ENV a
ENV =b
ENV a=b c
LABEL a=b =c
ARG =x
