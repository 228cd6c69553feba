"""Public data sets: fetched from their official addresses or a mirror, verified, unpacked, and looked after."""

from regionclip.data.fetch.fetching import fetch, status
from regionclip.data.fetch.sources import SOURCES

__all__ = ["SOURCES", "fetch", "status"]
