-- The messages, with the digest of what they say in place of that of their text wherever one request id was told in
-- several texts: a line that was spelled in another way underway (3.0 as 3, members in another order, escapes) says the same.
SELECT
  m.night, m.file_no, m.byte_offset, m.lines, m.type, m.request_id, m.event_time, m.day, m.model_version, m.first_record,
  COALESCE(v.digest, m.digest) AS digest
FROM messages AS m
LEFT JOIN (
  SELECT night, file_no, byte_offset, MD5(CAST(array_sort(array_agg(row_digest)) AS STRING)) AS digest
  FROM (
    SELECT r.night, r.file_no, r.byte_offset, MD5(CONCAT({input})) AS row_digest
    FROM inputs AS r
    JOIN (SELECT * FROM copies_by_text WHERE ambiguous = 1) AS c
    ON r.night = c.night AND r.file_no = c.file_no AND r.byte_offset = c.byte_offset
    UNION ALL
    SELECT r.night, r.file_no, r.byte_offset, MD5(CONCAT({output})) AS row_digest
    FROM outputs AS r
    JOIN (SELECT * FROM copies_by_text WHERE ambiguous = 1) AS c
    ON r.night = c.night AND r.file_no = c.file_no AND r.byte_offset = c.byte_offset
  ) AS told
  GROUP BY night, file_no, byte_offset
) AS v
ON m.night = v.night AND m.file_no = v.file_no AND m.byte_offset = v.byte_offset
