"""What images there are: folders, lists, shards and ``.beton`` files, here or remote."""
