-- The answers of a night's outputs, one row for each record.
SELECT
  file_no, byte_offset, request_id, event_time, CAST(event_time AS DATE) AS day,
  CAST(first_record + it.i AS INT) AS record,
  TRY_CAST(it.prediction AS DOUBLE) AS prediction,
  TRY_CAST(it.is_outlier AS BOOLEAN) AS is_outlier,
  TRY_CAST(it.score AS DOUBLE) AS outlier_score
FROM (
  SELECT file_no, byte_offset, request_id, event_time, first_record, explode(items) AS it
  FROM (
    SELECT *, answer_items(answer) AS items
    FROM (SELECT *, as_answer(data) AS answer FROM texts_read WHERE kind = 'message' AND type = 'OutputData') AS a
  ) AS b
) AS c
