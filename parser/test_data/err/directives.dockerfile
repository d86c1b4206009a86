# escape=x
# syntax=a
# Syntax=b
# check=skip
FROM scratch
