-- Landed lines as ContainerLogV2 records, and their LogMessage as one of our messages where it is one.
-- LogMessage is an object, or the same JSON as text, or any other text; as_export gives text for all three.
WITH records AS (
  SELECT file_no, byte_offset, as_export(line) AS e
  FROM landed
),
texts AS (
  SELECT
    file_no,
    byte_offset,
    CAST(1 AS INT) AS lines,
    CASE
      WHEN e IS NULL THEN 'broken JSON'
      WHEN e.LogMessage IS NULL THEN 'no LogMessage'
      WHEN TRY_CAST(e.TimeGenerated AS TIMESTAMP) IS NULL THEN 'no TimeGenerated'
    END AS fault,
    e.TimeGenerated AS generated,
    CONCAT_WS('/', e.PodNamespace, COALESCE(e.ContainerId, CONCAT_WS('/', e.PodName, e.ContainerName)), e.LogSource)
      AS stream,
    e.LogMessage AS message
  FROM records
)
