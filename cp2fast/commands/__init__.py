"""The commands, by what they are about: parse, build, call; no logic."""
