"""From a file to checked data: reading, the data contract, the hold-out."""
