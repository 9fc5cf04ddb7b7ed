"""Processes that benches start beside themselves."""
