# check=skip=StageNameCasing,JSONArgsRecommended;error=true
FROM scratch AS Base
CMD one
# check=skip=MaintainerDeprecated
MAINTAINER me
MAINTAINER you
