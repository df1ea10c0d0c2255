"""The page *Releases*: what runs where, what asks to be released, what was decided, and how the data drifts."""
