FROM scratch
RUN café ÿþ
