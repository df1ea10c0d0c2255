"""The evidence of a release: the document, its text at the gate, links and lineage."""
