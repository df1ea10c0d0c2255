-- Records whose own time is far from the time at which the log pipeline saw them.
SELECT COUNT(*) AS n
FROM day_rows
WHERE event_time > received_at + INTERVAL {hours} HOURS OR event_time < received_at - INTERVAL {hours} HOURS
