-- Records of a part of a day that were logged on one side only, or whose request id does not tell them apart.
WITH input_keys AS (
  SELECT r.night, r.file_no, r.byte_offset, r.request_id, r.event_time, r.record, c.ambiguous
  FROM (SELECT * FROM inputs WHERE {chosen}) AS r
  JOIN (SELECT * FROM copies WHERE {chosen} AND copy = 1) AS c
  ON r.night = c.night AND r.file_no = c.file_no AND r.byte_offset = c.byte_offset
),
output_keys AS (
  SELECT r.night, r.file_no, r.byte_offset, r.request_id, r.event_time, r.record, c.ambiguous
  FROM (SELECT * FROM outputs WHERE {chosen}) AS r
  JOIN (SELECT * FROM copies WHERE {chosen} AND copy = 1) AS c
  ON r.night = c.night AND r.file_no = c.file_no AND r.byte_offset = c.byte_offset
)
SELECT *, 'InputData' AS type, CASE WHEN ambiguous = 1 THEN 'request_id used twice' ELSE 'input without output' END AS reason
FROM input_keys AS k
WHERE ambiguous = 1 OR NOT EXISTS (
  SELECT 1 FROM output_keys AS o
  WHERE o.request_id = k.request_id AND o.event_time = k.event_time AND o.record = k.record
)
UNION ALL
SELECT *, 'OutputData' AS type, CASE WHEN ambiguous = 1 THEN 'request_id used twice' ELSE 'output without input' END AS reason
FROM output_keys AS k
WHERE ambiguous = 1 OR NOT EXISTS (
  SELECT 1 FROM input_keys AS i
  WHERE i.request_id = k.request_id AND i.event_time = k.event_time AND i.record = k.record
)
