-- What clients asked about on a day, whichever version answered: the latest record of each entity.
SELECT {columns}
FROM (
  SELECT
    *,
    ROW_NUMBER() OVER (PARTITION BY {entity} ORDER BY event_time DESC, request_id DESC, record DESC) AS newest
  FROM every_row
  WHERE COALESCE(client, '') <> '{own}'
) AS ranked
WHERE newest = 1
