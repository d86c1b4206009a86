FROM scratch
RUN ["a", 'b']
ENTRYPOINT ["a", "b",]
SHELL ["/bin/sh", "-c"]
CMD ["a" && b
COPY ["a", "b" /c/
RUN ["\q"]
RUN ["a", "b]
RUN ["a"
