-- The labelled training table: the original training set, and every outcome with the record that it is about.
SELECT
  {original},
  {label}, 'original' AS source, CAST(NULL AS STRING) AS effective_date, CAST(NULL AS STRING) AS recorded_at,
  CAST(NULL AS STRING) AS request_id, CAST(NULL AS STRING) AS model_version, row_no
FROM original
UNION ALL
SELECT
  {features},
  {label}, 'inference' AS source, CAST(effective_date AS STRING) AS effective_date,
  CAST(event_time AS STRING) AS recorded_at, request_id, model_version, CAST(NULL AS BIGINT) AS row_no
FROM labelled
