-- The records of a night's inputs, one row each.
SELECT
  file_no, byte_offset, request_id, event_time, CAST(event_time AS DATE) AS day, received_at, model_name, model_version,
  client, CAST(first_record + it.i AS INT) AS record,
  {features}
FROM (
  SELECT *, as_record(it.item) AS r
  FROM (
    SELECT
      file_no, byte_offset, request_id, event_time, received_at, model_name, model_version, client, first_record,
      explode(items) AS it
    FROM (SELECT *, json_items(data) AS items FROM texts_read WHERE kind = 'message' AND type = 'InputData') AS a
  ) AS b
) AS c
