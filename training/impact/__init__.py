"""What a release would change: the same records, scored by challenger and champion."""
