-- The champion's records of a day, and how many of them are about the entity that was asked about most.
SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) AS n, CAST(COALESCE(MAX(n), 0) AS BIGINT) AS most
FROM (SELECT COUNT(*) AS n FROM day_rows WHERE model_version = '{version}' GROUP BY {entity}) AS entities
