"""How others talk to us over HTTP."""
