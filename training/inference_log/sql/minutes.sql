-- The records of a day by minute, inputs and outputs together.
SELECT CAST(DATE_TRUNC('minute', event_time) AS STRING) AS minute, COUNT(*) AS n
FROM (SELECT event_time, day FROM inputs UNION ALL SELECT event_time, day FROM outputs) AS records
WHERE day = DATE '{day}'
GROUP BY DATE_TRUNC('minute', event_time)
ORDER BY minute
