FROM scratch
RUN <<EOF
echo $x
# no comment \

EOF
RUN cat <<'A' && cat 3<<-"B"
 one
A
		two	x
	B
COPY --chmod=644 <<a.txt file <<b.txt /dest/
a
a.txt
b $y
b.txt
ADD <<empty /x
empty
ONBUILD RUN <<EOF
later
EOF
RUN echo "<<EOF" a<<EOF 1 << 2
CMD ["cat", "<<EOF"]
