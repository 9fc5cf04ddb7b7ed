"""The phone system: control only. `port.py` says what the story needs of it; each folder is one adapter."""
