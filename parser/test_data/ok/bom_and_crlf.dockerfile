# syntax=a
FROM scratch
RUN a \
  b
COPY <<EOF /x
hi
EOF
