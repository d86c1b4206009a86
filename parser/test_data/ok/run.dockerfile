FROM scratch
RUN echo   two   blanks
RUN ["echo", "a b", "\u00e9\n"]
RUN --mount=type=cache,target=/root/.cache,sharing=locked --mount=type=secret,id=x,env=TOKEN \
    --mount="type=bind,source=a b,rw" --mount=type=bind,"\"source=a,b\"" make
RUN --network=none --security=insecure --device=vendor.com/gpu=all,required --device=b -- --odd
RUN [ -f x ] || [ "$a" = "b" ]
