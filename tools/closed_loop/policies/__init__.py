"""The policies: networks in the shape of VLAs, and their weights in files."""
