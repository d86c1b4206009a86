FROM scratch
ENV a=1 "b c"='x  y' d\ e=$a f= g=h=i
ENV old   the  rest "of" the line
LABEL a.b="c d" e='f'
LABEL plain text
ARG x y= z="a b"
WORKDIR /a b
USER $user:1000
EXPOSE 80 443/tcp $ports 8000-8010/udp
VOLUME /a $b
VOLUME ["/c d", "/e"]
ENTRYPOINT ["/bin/lap"]
CMD []
SHELL ["/bin/bash", "-c"]
STOPSIGNAL SIGTERM
MAINTAINER Some One <someone@example.com>
