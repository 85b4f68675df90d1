"""Sources decode the images of a plan into batches; one file each."""
