# escape=`
FROM scratch
ENV a=C:\dir\ b=x` y
WORKDIR C:\a\
RUN dir C:\ `
    more
COPY --chown="a`b" x y
