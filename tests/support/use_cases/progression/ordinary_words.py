"""Words that are columns of this table and stand in the rails as words of their own."""

ORDINARY_WORDS = {
    "order": "a keyword of SQL and KQL",
    "select": "a keyword of SQL, in the list of words that no column may have",
    "sex": "the scaffold takes a column of this name for a protected attribute",
}
