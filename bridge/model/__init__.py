"""What things are called: LiveKit's words where LiveKit has one. Pure data; knows nothing else of ours."""
