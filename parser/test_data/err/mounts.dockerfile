FROM scratch
RUN --mount=type=cahce,target=/x a
RUN --mount=type=volume a
RUN --mount=traget=/x a
RUN --mount=target a
RUN --mount=from=$x,target=/y a
RUN --mount=type=cache,mode=9,target=/y a
RUN --mount=type=bind,"a a
