"""Public data sets: fetched from their official addresses or a mirror, verified, unpacked, and looked after."""
