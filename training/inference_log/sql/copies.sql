-- The messages of a part of a day over all nights, each with the number of its copy (the first delivery is 1), and
-- whether its request id was used for another request in the same millisecond: nobody can tell then which answer is
-- whose.
SELECT *, MAX(CASE WHEN twins > 1 THEN 1 ELSE 0 END) OVER (PARTITION BY request_id, event_time) AS ambiguous
FROM (
  SELECT *, SUM(CASE WHEN copy = 1 THEN 1 ELSE 0 END) OVER (PARTITION BY type, request_id, event_time, first_record) AS twins
  FROM (
    SELECT
      night, file_no, byte_offset, lines, type, request_id, event_time, first_record,
      ROW_NUMBER() OVER (
        PARTITION BY type, request_id, event_time, first_record, model_version, digest
        ORDER BY night, file_no, byte_offset
      ) AS copy
    FROM {messages}
    WHERE {chosen}
  ) AS numbered
) AS compared
