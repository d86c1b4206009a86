  	 FROM	scratch  
	RUN 	 a	 b 
COPY	a   b	/c
 RUN x
