-- The champion's records of a day, the latest one of each employee. Requests of the release's own verification
-- (serving/verify.py names them verify-...) say nothing about the people who are asked about.
SELECT {columns}, prediction, is_outlier
FROM (
  SELECT
    *,
    ROW_NUMBER() OVER (
      PARTITION BY COALESCE(CAST(EmployeeNumber AS STRING), CONCAT(request_id, '/', CAST(record AS STRING)))
      ORDER BY event_time DESC, request_id DESC, record DESC
    ) AS newest
  FROM day_rows
  WHERE model_version = '{version}' AND request_id NOT LIKE 'verify-%'
) AS ranked
WHERE newest = 1
