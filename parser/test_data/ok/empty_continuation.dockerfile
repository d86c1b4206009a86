FROM scratch
RUN a \


  b


RUN c
