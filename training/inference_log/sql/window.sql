-- The champion's records of a day, the latest one of each entity.
SELECT {columns}
FROM (
  SELECT
    *,
    ROW_NUMBER() OVER (PARTITION BY {entity} ORDER BY event_time DESC, request_id DESC, record DESC) AS newest
  FROM day_rows
  WHERE model_version = '{version}'
) AS ranked
WHERE newest = 1
