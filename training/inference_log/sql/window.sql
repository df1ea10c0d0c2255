-- The champion's records of a day, the latest one of each entity. Requests of the release's own verification
-- (serving/verify.py names them verify-...) say nothing about the entities that are asked about.
SELECT {columns}
FROM (
  SELECT
    *,
    ROW_NUMBER() OVER (PARTITION BY {entity} ORDER BY event_time DESC, request_id DESC, record DESC) AS newest
  FROM day_rows
  WHERE model_version = '{version}' AND request_id NOT LIKE 'verify-%'
) AS ranked
WHERE newest = 1
