"""The sound of calls: one 20 ms beat, what is played, and the ways a PBX hands us audio. Takes no decision."""
