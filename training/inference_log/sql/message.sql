-- Continues with texts(file_no, byte_offset, lines, fault, generated, stream, message); one row for each, with its kind:
-- message (ours), piece (may be part of a line that the runtime cut), foreign, or quarantined with a fault.
, parsed AS (
  SELECT *, as_message(message) AS m
  FROM texts
),
judged AS (
  SELECT
    *,
    COALESCE(m.service_name = {service} AND m.type IN ('InputData', 'OutputData'), false) AS ours,
    COALESCE(m IS NULL AND byte_length(message) >= {cut_bytes}, false) AS cut,
    TRY_CAST(m.timestamp AS TIMESTAMP) AS event_time
  FROM parsed
),
found AS (
  SELECT
    *,
    CASE
      WHEN fault IS NOT NULL THEN fault
      WHEN m IS NULL AND NOT cut AND message LIKE '{{%' AND contains(message, {service}) THEN 'broken JSON in LogMessage'
      WHEN NOT ours THEN NULL
      WHEN m.request_id IS NULL THEN 'no request_id'
      WHEN event_time IS NULL THEN 'no timestamp'
      WHEN m.type = 'InputData' AND COALESCE(m.data NOT LIKE '[%', true) THEN 'no list of records'
      WHEN m.type = 'OutputData' AND output_count(m.data) IS NULL THEN 'no predictions'
    END AS reason
  FROM judged
),
sorted AS (
  SELECT
    *,
    CASE
      WHEN reason IS NOT NULL THEN 'quarantined'
      WHEN ours THEN 'message'
      WHEN cut OR (m IS NULL AND message LIKE '%}}') THEN 'piece'
      ELSE 'foreign'
    END AS kind
  FROM found
)
SELECT
  file_no,
  byte_offset,
  lines,
  kind,
  reason,
  generated,
  stream,
  CASE WHEN kind = 'piece' THEN message END AS message,
  m.type AS type,
  m.request_id AS request_id,
  event_time,
  TRY_CAST(generated AS TIMESTAMP) AS received_at,
  m.model_name AS model_name,
  m.model_version AS model_version,
  m.client AS client,
  COALESCE(TRY_CAST(m.first_record AS INT), 0) AS first_record,
  CASE WHEN kind = 'message' THEN MD5(m.data) END AS digest,
  CASE WHEN kind = 'message' THEN m.data END AS data
FROM sorted
