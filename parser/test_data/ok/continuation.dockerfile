FROM scratch
RUN one \
    two \  	
  # a comment with a backslash \
    three
RUN backslash \\
RUN last \
