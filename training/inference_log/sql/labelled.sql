-- The outcomes feed joined as of: each outcome with the latest record of its key since the outcome before it, never one
-- from the effective date on. An outcome counts from its own date on: what is planned for later is left out.
WITH periods AS (
  SELECT
    {key}, {label}, effective_date, CAST(effective_date AS TIMESTAMP) AS until_time,
    GREATEST(
      CAST(effective_date AS TIMESTAMP) - INTERVAL {horizon_days} DAYS,
      COALESCE(
        CAST(LAG(effective_date) OVER (PARTITION BY {key} ORDER BY effective_date) AS TIMESTAMP),
        TIMESTAMP '1900-01-01 00:00:00'
      )
    ) AS since_time
  FROM (
    SELECT
      *, ROW_NUMBER() OVER (PARTITION BY {key}, effective_date ORDER BY file DESC, row_no DESC) AS newest
    FROM outcomes
    WHERE effective_date <= DATE '{night}'
  ) AS delivered
  WHERE newest = 1
),
ranked AS (
  SELECT
    p.{label}, p.effective_date, p.{key},
    i.source_night, i.source_file, i.source_offset, i.record,
    ROW_NUMBER() OVER (
      PARTITION BY p.{key}, p.effective_date ORDER BY i.event_time DESC, i.request_id DESC, i.record DESC
    ) AS newest
  FROM periods AS p
  JOIN inference AS i
    ON i.{key} = p.{key} AND i.event_time < p.until_time AND i.event_time >= p.since_time
  -- Golden answers that a release asks for are not records of anybody.
  WHERE i.curated_night <= '{night}' AND COALESCE(i.client, '') <> '{release_client}'
)
SELECT
  r.{label}, r.effective_date, i.event_time, i.request_id, i.record, i.model_name, i.model_version, i.prediction,
  {features}
FROM ranked AS r
JOIN inference AS i
  ON i.source_night = r.source_night AND i.source_file = r.source_file AND i.source_offset = r.source_offset
  AND i.record = r.record
WHERE r.newest = 1
