FROM scratch
ONBUILD COPY --from=x . /src
onbuild  Env a=b
ONBUILD RUN ["a", "b"]
