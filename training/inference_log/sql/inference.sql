-- One row for each scored record of a part of a day: the input, with the answer to it.
SELECT
  i.request_id, i.record, i.event_time, i.received_at, i.model_name, i.model_version, i.client,
  {features},
  o.prediction, o.is_outlier, o.outlier_score,
  i.night AS source_night, i.file_no AS source_file, i.byte_offset AS source_offset,
  GREATEST(i.night, o.night) AS curated_night
FROM (
  SELECT r.* FROM (SELECT * FROM inputs WHERE {chosen}) AS r
  JOIN (SELECT * FROM copies WHERE {chosen} AND copy = 1 AND ambiguous = 0) AS c
  ON r.night = c.night AND r.file_no = c.file_no AND r.byte_offset = c.byte_offset
) AS i
JOIN (
  SELECT r.* FROM (SELECT * FROM outputs WHERE {chosen}) AS r
  JOIN (SELECT * FROM copies WHERE {chosen} AND copy = 1 AND ambiguous = 0) AS c
  ON r.night = c.night AND r.file_no = c.file_no AND r.byte_offset = c.byte_offset
) AS o
ON i.request_id = o.request_id AND i.event_time = o.event_time AND i.record = o.record
