"""WebDataset shards: tar files of which any image can be read without the others."""
