-- Our messages of a night, one row each, without their data.
SELECT
  file_no, byte_offset, lines, type, request_id, event_time, CAST(event_time AS DATE) AS day, model_version,
  first_record, digest
FROM texts_read
WHERE kind = 'message'
