"""Employee attrition."""
