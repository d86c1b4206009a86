# first

# about the stage
# in two lines
FROM scratch
#dropped
#
  # indented
RUN echo # not a comment
