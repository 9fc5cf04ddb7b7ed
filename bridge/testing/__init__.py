"""Helpers for our tests and our users' tests: a scripted AMI, fakes for every port, and a real PBX with a carrier on loopback."""
