FROM scratch
COPY --chown=a \
  # between
  --chown=b \
  x y
ENV a=1 \
  b
