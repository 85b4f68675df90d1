"""The recipes, one YAML file each, found by name from the command line."""
