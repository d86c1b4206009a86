FROM scratch
CMD [1]
RUN ["a", {"b": [null]}]
COPY ["a", null] /x
SHELL bash
SHELL ['a']
