FROM --platfrom=x scratch
COPY --chowm=a --link=maybe --from --chown=a --chown=b x y
RUN --mount
CMD --version
COPY --link= a b
COPY --zzz a b
ADD --from=x a b
