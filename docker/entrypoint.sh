#!/bin/sh
# numba wants to write where its compiled code lies; the image may be read-only, so it works on a copy.
[ -d "$NUMBA_CACHE_DIR" ] || cp -r /opt/cytolite/numba "$NUMBA_CACHE_DIR" || echo "warning: $NUMBA_CACHE_DIR cannot be written; add --tmpfs /tmp" >&2
exec cytolite "$@"
