"""The story of one call, told through the ports. Knows no adapter, no socket and no library of the outside world."""
