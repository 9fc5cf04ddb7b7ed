"""Where callers go: the embedded room here, LiveKit's rooms elsewhere, behind one port."""
