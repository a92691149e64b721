"""Fuzzing: random and hostile configurations and inputs, of which every one must end in order."""
