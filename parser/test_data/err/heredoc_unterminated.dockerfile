FROM scratch
RUN a \
  <<A <<B
x
A
y
