"""`make demo`: from data to production, with a person's approval in the middle."""
