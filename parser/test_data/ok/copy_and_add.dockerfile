FROM scratch
COPY --from=build --chown=$user:1 --chmod=u=rwX,go=rX --link --parents=false --exclude=*.md --exclude=b a b/ /c/
COPY ["with blank", "and \"quote\"", "/dest/"]
copy [not json] /x
ADD --checksum=sha256:0 --keep-git-dir=true --unpack=false --link=TRUE https://example.com/x.tar /x
ADD a\ b /c
