"""Words that are columns of this table and stand in the rails as words of their own."""

ORDINARY_WORDS = {
    "item": "a member of the lists that the inference log holds",
    "week": "the span of time that the forecasts are judged by",
}
