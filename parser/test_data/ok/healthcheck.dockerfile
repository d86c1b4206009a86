FROM scratch
HEALTHCHECK none
FROM scratch
HEALTHCHECK --interval=1h30m --timeout=1.5s --start-period=0 --start-interval=500ms --retries=3 CMD curl -f http://localhost/ || exit 1
FROM scratch
HEALTHCHECK --interval= cmd ["true"]
