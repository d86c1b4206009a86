# syntax=docker/dockerfile:1
#ESCAPE = `
# check=skip=StageNameCasing
# not a directive=x
FROM scratch AS Base
RUN a `
    b
